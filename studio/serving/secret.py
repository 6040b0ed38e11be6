"""The key that signs session cookies: the workspace's secret, so that pages stay signed in across restarts."""

from __future__ import annotations

from studio.store.secret import workspace_secret as session_secret

__all__ = ["session_secret"]
