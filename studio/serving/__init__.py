"""The outer web app: who may come in, which headers go out, and the routes that need no page."""

from studio.serving.app import create_app
from studio.serving.identity import OWNER, Identify, Role, owner_only, require

__all__ = ["OWNER", "Identify", "Role", "create_app", "owner_only", "require"]
