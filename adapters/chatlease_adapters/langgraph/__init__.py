"""LangGraph Server (LangSmith Deployment, ``langgraph dev``, and what speaks the same API): the adapter."""

from ._adapter import LangGraph

__all__ = ["LangGraph"]
