"""The generation room: tokens for a prompt, from a base model or a LoRA adapter beside it.

Does: streams continuations, scores given ones, counts tokens, serves adapters registered while it runs.
Needs: an engine (vLLM in this process, or the scripted one), a database for the adapters it serves. It calls no room.
Publishes: gRPC `brain.generation.v1` (GenerationService, ModelService); metrics of its own and of vLLM.
"""
