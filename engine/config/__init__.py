"""YAML → types: a site's folder becomes a SitePlan, or problems that can be mended at two in the morning.

The way of a file: ``yaml`` parses it and remembers where every key stands; ``interpolate`` fills in ``${VAR}``;
``models`` checks the keys of the engine; ``registry`` finds the class behind each connector's or step's word;
``loading`` compiles steps and lends them tables, fragments and functions (``files``); ``compile`` and
``destination`` put a channel together; ``site`` does it for all channels and checks what needs several files.
``plan`` is what comes out.

Three rules hold everywhere:

- All faults of all files are told at once, each once, with file, line, key, what was expected and the nearest valid
  word.
- A channel that is wrong is left out (``SitePlan.broken``) and the others run; only a ``site.yaml`` that cannot be
  used raises.
- No secret is in a ``repr`` or a problem: what ``${VAR}`` filled in is never quoted.

``ensure_env`` makes a site's secrets at first run; ``secret_names`` says which ones ``site.yaml`` wants.
"""

from __future__ import annotations

from engine.config.plan import ChannelPlan, DestinationPlan, SitePlan
from engine.config.secrets import ADMIN_KEY, STORE_KEY, ensure_env
from engine.config.settings import SiteSettings
from engine.config.site import load_site, secret_names

__all__ = [
    "ADMIN_KEY",
    "STORE_KEY",
    "ChannelPlan",
    "DestinationPlan",
    "SitePlan",
    "SiteSettings",
    "ensure_env",
    "load_site",
    "secret_names",
]
