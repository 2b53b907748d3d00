"""What the agent tells its operators about itself: numbers (`metrics`) and log lines (`logs`), both in Consul's words."""

from .instruments import Counter, Family, Gauge, Histogram, Sample
from .logs import TRACE, LogOptions, Logs, fields, parse_level
from .metrics import ClientApi, Metrics

__all__ = [
    "TRACE",
    "ClientApi",
    "Counter",
    "Family",
    "Gauge",
    "Histogram",
    "LogOptions",
    "Logs",
    "Metrics",
    "Sample",
    "fields",
    "parse_level",
]
