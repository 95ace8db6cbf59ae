"""How a grounded turn is laid out: one text for what is served and for what is trained on.

A model that was tuned to read must be asked in the very layout that it was tuned with, so that the chat room, which serves
grounded turns, and the finetuning room, which makes rows of them, build their prompts here
(docs/decisions/0022-one-layout-for-serving-and-training.md). Pure, and no room: it knows none of them, no wire and no
vendor; what must be asked of a model or an index (counts of tokens, passages, scores) is given to it.
"""
