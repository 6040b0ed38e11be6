"""The pages: Gradio only. They import studio, and never sqlalchemy, torch, transformers, peft or trl.

Gradio and the hub client read these variables when they are imported, and without them call home; every module
of this package is imported after this one, so it is set here, once, before any of them can be wrong.
"""

import os

QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_ANALYTICS_CACHE_FREQUENCY": "100000",  # else a pandas pass over all past events after every event
    "GRADIO_HEARTBEAT_INTERVAL": "15",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}

os.environ.update(QUIET)
