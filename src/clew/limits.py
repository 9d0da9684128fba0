"""Every cap of the project: its value, its unit in the name, and why it is what it is."""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB

# --- one span -------------------------------------------------------------------------------------------------------

# OpenTelemetry's defaults. Past them a span is a log; what is dropped is counted in the OTLP fields made for it.
ATTRIBUTES_PER_SPAN = 128
EVENTS_PER_SPAN = 128
LINKS_PER_SPAN = 128
ATTRIBUTES_PER_EVENT = 128
ATTRIBUTES_PER_LINK = 128

# A value nested deeper than this is replaced by a placeholder: cycles end here, and no decoder's stack is at risk.
# protobuf's decoders refuse a whole request of more than 100 levels of messages: a mapping takes three of them, a list
# two, what stands around an event's value six.
VALUE_DEPTH = 30

# Elements that one nested value may hold in all. It bounds what a cyclic or shared structure can unfold to.
VALUE_ITEMS = 100_000

# A trace that begins takes its offset from a reading of the wall clock no older than this: times are promised to be
# right to the millisecond.
WALL_CLOCK_AGE_NS = 1_000_000

# --- the queue and its batches --------------------------------------------------------------------------------------

# About 180,000 typical spans. A program that makes 10,000 spans a second can outlast an exporter that hangs for 15 s.
QUEUE_BYTES = 32 * MIB
# OTEL_BSP_MAX_EXPORT_BATCH_SIZE and OTEL_BSP_SCHEDULE_DELAY of the OpenTelemetry specification.
BATCH_SPANS = 512
BATCH_DELAY_SECONDS = 5.0
# Libraries in whose name one tracer makes spans; further ones count as the tracer's own. A batch is sorted by them.
SCOPES = 1000
# A batch is one contiguous buffer: large enough for 512 typical spans, small enough to grow without a visible pause.
BATCH_BYTES = 128 * KIB
# A flush at exit may delay the end of the program by this at the most.
CLOSE_TIMEOUT_SECONDS = 5.0
# A child process of multiprocessing is waited for by its parent, often with a timeout of its own.
CHILD_CLOSE_SECONDS = 2.0
# Of that time, an exporter that waits for an answer leaves so much to say that it gives up, and to close.
GIVE_UP_SECONDS = 0.25
# Whoever waits for an exporter looks for signals, such as Ctrl-C, at least this often.
SIGNAL_SECONDS = 0.5
# An exporter that cannot deliver says so in the log once in this time for each kind of error; the ledger counts all.
ERROR_LOG_SECONDS = 60.0

# --- OTLP -------------------------------------------------------------------------------------------------------------

# The OpenTelemetry specification's time for one batch, all tries together ("OpenTelemetry Protocol Exporter").
OTLP_TIMEOUT_SECONDS = 10.0
# A request is never larger (OTLP specification, "OTLP/HTTP Request", "OTLP/gRPC Request").
OTLP_REQUEST_BYTES = 64 * MIB
# Where it can be cut, not larger than what gRPC servers take unless told otherwise. A batch is far smaller.
OTLP_SPLIT_BYTES = 4 * MIB - 64 * KIB
# Of an answer so much is read (same sections), and so much of what HTTP puts before it.
OTLP_REPLY_BYTES = 4 * MIB
OTLP_REPLY_HEAD_BYTES = 64 * KIB
# Of what a receiver says of an error, for the log.
OTLP_TEXT_CHARACTERS = 200
# Between two tries: at first, and after many. A collector that is started anew is back within seconds.
OTLP_BACKOFF_SECONDS = 0.5
OTLP_BACKOFF_MOST_SECONDS = 16.0
# A receiver that asks for more time than this is mistaken, and not obeyed for ever.
OTLP_RETRY_AFTER_SECONDS = 300.0
# A connection that was not used for so long is made anew: collectors close theirs after a minute, and what stands in
# between forgets it without a word.
OTLP_IDLE_SECONDS = 50.0
# While it waits for a receiver, an exporter looks this often whether the program ends.
OTLP_WAIT_SECONDS = 0.1

# --- sampling -------------------------------------------------------------------------------------------------------

# RateLimitSample keeps eight bytes for each trace of a second. Who wants more than this wants AlwaysSample.
RATE_LIMIT_PER_SECOND = 100_000

# Spans that a TailSample holds: some 90,000 typical ones, until the roots of their traces have ended.
TAIL_BYTES = 16 * MIB
# Traces that a TailSample remembers as kept, for spans that end after their root: 100 bytes each.
TAIL_DECISIONS = 10_000
# How long a trace is held whose root does not end: what an operation that anybody waits for does not take.
TAIL_WAIT_SECONDS = 600.0
# Spans that a FlightRecorder holds: some 350,000 typical ones.
RECORDER_BYTES = 64 * MIB
RECORDER_SECONDS = 30.0

# --- propagation ----------------------------------------------------------------------------------------------------

# W3C trace context level 2, section 3.3.1.1; W3C baggage, section 3.3.2, summed over all header lines.
TRACESTATE_MEMBERS = 32
BAGGAGE_BYTES = 8192
BAGGAGE_MEMBERS = 64

# --- reading files --------------------------------------------------------------------------------------------------

# A line or a message longer than this is damaged, or an attack on memory (OTLP bodies are at most 64 MiB).
LINE_BYTES = 64 * MIB

# Spans that a reader gives at once where the file has no larger parts of its own: 1 MB, and loops that are long enough.
BLOCK_SPANS = 512

# Spans of a Chrome trace that are held, written: until their trace is silent; read: until they are in their order. At
# 2 KB each, 64 MB.
CHROME_SPANS_HELD = 32_768
# Services that get a process of their own, and lanes that each of them has: far more than anybody looks at. Spans for
# which there is no lane get a track each.
CHROME_PROCESSES = 1000
CHROME_LANES = 500
# Stretches of time that are remembered of a lane one by one; what was before them is taken for one.
CHROME_LANE_STACKS = 1024
# Ends of arrows that wait for their other end, or may get one, and how many of them for one slice: 10 MB.
CHROME_ARROWS = 20_000
CHROME_ARROWS_TO_ONE = 100
# Pairs of a resource and a scope that are remembered when they were written; a reader has to remember those of the
# spans that a writer holds too.
CHROME_ORIGINS = 4096

# Names of processes and threads, and asynchronous ids with slices that are open, that are known of a Chrome trace.
CHROME_NAMES = 10_000

# Spans, and bytes before they are compressed, that a Parquet file has in one row group. They are in memory until they
# are written; a query opens and skips whole groups, so they are not to be small.
PARQUET_GROUP_SPANS = 65_536
PARQUET_GROUP_BYTES = 32 * MIB

# Spans of Jaeger's JSON that wait, as text, for the processes of their trace; a trace of more is read without them.
# The first of them wait as objects, which take ten times as much memory, but need not be read twice.
JAEGER_HELD_CHARACTERS = 32 * MIB
JAEGER_PARSED_CHARACTERS = 1 * MIB

# Spans that are sorted by their traces in memory; more are sorted in parts of this size and merged, each of which is
# read through a window. With 100 GB of spans these are 200 MB.
SORTED_BYTES = 32 * MIB
SORTED_WINDOW_BYTES = 64 * KIB

# What an xz file may ask for to be decompressed: its header can claim 4 GiB. `xz -9` needs half of this.
XZ_MEMORY_BYTES = 128 * MIB

# Traces that match what `clew view` was asked for are counted as far as this: 1.5 MB of ids, whatever the file's size.
TRACES_COUNTED = 10_000

# Less than this is read within a second: no progress is shown.
PROGRESS_BYTES = 16 * MIB

# `clew view -f` holds spans back until their trace is complete. At 2 KB each 100 MB at the most; then the oldest
# traces are drawn as they are.
FOLLOWED_SPANS = 50_000
# It remembers so many traces that it drew, to say "continued" when more of their spans come.
FOLLOWED_TRACES = 10_000

# Lists and mappings within each other in one value. protobuf's decoders stop at 100 levels of messages, and each of
# these takes two or three: what another tool could write is read, and the stack is safe from what it could not.
DECODED_VALUE_DEPTH = 64

# --- tor ------------------------------------------------------------------------------------------------------------

# One line of the control port. tor's own longest (descriptors, in data blocks) stay far below it.
CONTROL_LINE_BYTES = 1 * MIB
# All lines of one reply; GETINFO ns/all on the public network is about 4 MB.
CONTROL_REPLY_BYTES = 64 * MIB
# Bytes that were received and not yet looked at; past them tor has to wait. Twice a consensus of the public network.
CONTROL_RECEIVED_BYTES = 8 * MIB
# Events that wait for the program. At 3 KB each, 100 MB at the most; then the oldest go and are counted.
CONTROL_EVENTS_QUEUED = 32_768
# The same in bytes: a peer that is no tor could send events of a megabyte each. tor's own have about 300 bytes.
CONTROL_EVENTS_QUEUED_BYTES = 64 * MIB
# Until tor has to accept a connection or answer a command. Its main loop is busy for a second or two at the most.
CONTROL_TIMEOUT_SECONDS = 10.0
# A tor that is silent for so long is asked whether it is there. One that hangs is noticed within these two times.
CONTROL_HEARTBEAT_SECONDS = 30.0
# Circuits kept open by the mapper at once; a busy relay-less client has some dozens. The oldest is ended and counted.
CIRCUITS_OPEN = 4096
# The same for streams: a busy crawler has some hundreds, and each waits at the most as long as its connection lives.
STREAMS_OPEN = 16_384
# Circuits that failed while a stream waited and are told of one by one; further ones are counted. tor does not say for
# whom a circuit was, so where many streams wait each failure is told to all of them.
CIRCUITS_FAILED_TOLD = 8
# Phases of onion-service connections that are open at once. A service has some dozens of them.
ONION_PHASES_OPEN = 4096
# Onion services whose last connection is remembered, so that a stream that waited along with another gets a link.
ONION_CONNECTIONS_KEPT = 1024
# First bytes that were noticed before tor's event of their stream was taken; that is within milliseconds.
FIRST_BYTES_WAITING = 1024
# Connections to relays that are being made at once. A client makes a few; at 2 KB each, 2 MB. The oldest is ended.
OR_CONNECTIONS_OPEN = 1024
# Connections of the program to tor that wait for their stream, which comes within milliseconds: 2 MB. The oldest go.
SOCKS_CONNECTIONS_WAITING = 4096
# From the connection to the SOCKS request on it. A program that is busy may take longer: then its socket must still be
# open, or else another program could have got the same address in between.
SOCKS_REQUEST_NS = 5_000_000_000
# Connections whose first byte is waited for at once: 200 KB. Of the oldest it is not told when that came.
FIRST_BYTES_WATCHED = 4096

# --- the report -----------------------------------------------------------------------------------------------------

# Spans held until their trace is complete as far as one can tell. At 1.5 KB each 150 MB; a trace whose spans are
# further apart in the files than this is looked at in parts.
REPORT_SPANS_HELD = 100_000
# Durations kept of one distribution; of more, a sample drawn by lot: 2 MB, and a p99 that is off by 0.02 % of ranks.
REPORT_VALUES = 250_000
# The same of one relay, and of how many relays: 24 KB each. The public network has about 8,000, a client meets fewer.
REPORT_RELAY_VALUES = 1000
REPORT_RELAYS = 2000
# Series of a figure, and reasons of failures: tor has some dozens. A hostile file could name a new one in each span.
REPORT_KEYS = 64
# Circuits that are remembered, so that a stream's link to its circuit tells the guard: 15 MB.
REPORT_BUILDS_HELD = 50_000
# Connections to onion services of which the parts are kept, at 0.5 KB each; of more, a sample.
REPORT_CONNECTIONS = 20_000
# Steps of time in which failures are counted: as many bars as a page shows side by side.
REPORT_STEPS = 60
# Points of a curve: more are not told apart in a picture.
REPORT_CURVE_POINTS = 160
# Rows of a table of relays.
REPORT_ROWS = 15
# Spans of one slow request that are kept and drawn. A request has ten to fifty.
REPORT_SPANS_DRAWN = 300
# Of the slowest requests, so many can be asked for: with their spans, 50 MB.
REPORT_SLOWEST = 100
# Characters of a name that are shown; a hostile one may have millions.
REPORT_NAME_CHARS = 200

# --- statistics of files ----------------------------------------------------------------------------------------------

# Names of spans that are counted by themselves; the rest is counted together. Names with ids in them have no end.
STATS_NAMES = 1000
# Durations kept of each; of more, a sample: 80 KB each, 80 MB of all, and a p99 that is off by 0.1 % of the ranks.
STATS_VALUES = 10_000
# Different traces are counted exactly up to this number, then estimated, wrong by 0.4 % on average: 10 MB.
STATS_TRACES = 65_536
# Spans kept of each of the slowest traces, to find its root: roots, errors and the longest are preferred.
STATS_TRACE_SPANS = 50

# --- privacy --------------------------------------------------------------------------------------------------------

# Destinations that are recognised in texts: 200 bytes each. A program that visits more has long ended the spans of the
# first ones.
PLACES_REMEMBERED = 4096
# Names of DNS have 253 characters at the most.
PLACE_CHARACTERS = 255
# A text that is longer is not searched for places, which takes a millisecond or two by then, but hashed as a whole.
SEARCHED_CHARACTERS = 4 * KIB
# What was found in short texts is remembered, because programs repeat themselves: some megabytes at the most.
SEARCHED_TEXTS = 4096
SEARCHED_TEXT_CHARACTERS = 256

# --- recordings of tor's events ---------------------------------------------------------------------------------------

# What a recording keeps in memory before it is written, and so what the end of the process can cost, if nobody flushes.
RECORDING_BUFFER_BYTES = 64 * KIB
# xz loses what was not ended: so much text, or that of so many seconds. A stream's ends cost 60 bytes.
RECORDING_STREAM_BYTES = 4 * MIB
RECORDING_STREAM_SECONDS = 60.0
# Problems of a log of tor's events that are kept with their line's number; all are counted.
LOG_PROBLEMS_KEPT = 10
