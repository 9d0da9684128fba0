"""OTLP, the OpenTelemetry protocol's encoding of spans: bytes and JSON <-> `clew.model`. No I/O."""

from __future__ import annotations

from clew.otlp.batch import Batch
from clew.otlp.json import decode_json
from clew.otlp.protobuf import decode_traces, encode_span, encode_traces

__all__ = ["Batch", "decode_json", "decode_traces", "encode_span", "encode_traces"]
