"""Who may call which RPC of the chat room; what is not listed is refused."""

from services.chassis.auth import ANYONE, Policy, Role, at_least

# Conversations and receipts are checked again against their owner, feedback against its rater and curators, comparisons
# against their raters and what these may read. Who samples answers puts a question before others; who exports sees theirs.
POLICY: Policy = {
    "/brain.chat.v1.ChatService/Chat": ANYONE,
    "/brain.chat.v1.FeedbackService/GiveFeedback": ANYONE,
    "/brain.chat.v1.FeedbackService/GetFeedback": ANYONE,
    "/brain.chat.v1.FeedbackService/ListFeedback": ANYONE,
    "/brain.chat.v1.FeedbackService/WithdrawFeedback": ANYONE,
    "/brain.chat.v1.FeedbackService/ExportFeedback": at_least(Role.CURATOR),
    "/brain.chat.v1.FeedbackService/Agreement": at_least(Role.CURATOR),
    "/brain.chat.v1.FeedbackService/SampleAnswers": at_least(Role.CONTRIBUTOR),
    "/brain.chat.v1.FeedbackService/ListComparisons": ANYONE,
    "/brain.chat.v1.FeedbackService/GetComparison": ANYONE,
    "/brain.chat.v1.FeedbackService/RankAnswers": ANYONE,
    "/brain.chat.v1.FeedbackService/DeleteComparison": at_least(Role.CONTRIBUTOR),
    "/brain.chat.v1.ConversationService/ListConversations": ANYONE,
    "/brain.chat.v1.ConversationService/GetConversation": ANYONE,
    "/brain.chat.v1.ConversationService/DeleteConversation": ANYONE,
    "/brain.chat.v1.ReceiptService/GetReceipt": ANYONE,
    "/brain.chat.v1.ReceiptService/ReplayReceipt": ANYONE,
}
