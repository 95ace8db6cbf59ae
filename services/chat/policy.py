"""Who may call which RPC of the chat room; what is not listed is refused."""

from services.chassis.auth import ANYONE, Policy

# Conversations and receipts are checked again against their owner.
POLICY: Policy = {
    "/brain.chat.v1.ChatService/Chat": ANYONE,
    "/brain.chat.v1.ConversationService/ListConversations": ANYONE,
    "/brain.chat.v1.ConversationService/GetConversation": ANYONE,
    "/brain.chat.v1.ConversationService/DeleteConversation": ANYONE,
    "/brain.chat.v1.ReceiptService/GetReceipt": ANYONE,
    "/brain.chat.v1.ReceiptService/ReplayReceipt": ANYONE,
}
