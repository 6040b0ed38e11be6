"""Ladder Studio without a face: everything a notebook, the command line or the pages need. Never imports gradio."""

__version__ = "0.1.0"
