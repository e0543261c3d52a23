"""The parts of the local Open-Assistant service; `chatlease_adapters.open_assistant.service` is its public face.

From the inside out: `_store` keeps users, chats and messages, `_queue` and `_frames` are the two queues that the real
server keeps in Redis, `_worker` takes from the one and fills the other, `_rules` is what every call does and refuses,
`_server` and `_site` are the two HTTP dialects over the rules, `_stream` writes event streams, `_dispatch` carries a
request through login, faults, effect and reply.
"""
