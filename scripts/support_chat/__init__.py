"""The parts of scripts/make_support_chat.py: the shop, what is said about it, and how a conversation goes."""
