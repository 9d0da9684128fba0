"""What the attributes of an application's spans tell: a table of the names that OpenTelemetry's conventions give them.

Old names are here too, because libraries go on using them. What is not here is the program's own
(`Content.APPLICATION`).

Source: OpenTelemetry's semantic conventions, the attribute registry, with what it lists as deprecated.
"""

from __future__ import annotations

import re
from functools import lru_cache

from clew.tor.attributes import ATTRIBUTES, Attribute, Content

__all__ = ["CONVENTIONS", "row_of", "row_of_tor"]

_C = Content


def _rows(content: Content, meaning: str, names: str) -> tuple[Attribute, ...]:
    return tuple(Attribute(name, content, meaning) for name in names.split())


# A name that ends with ".*" stands for all that begin so and have no row of their own.
CONVENTIONS: tuple[Attribute, ...] = (
    *_rows(
        _C.DESTINATION,
        "the other side: its name, address, port, and what is asked of it",
        "server.* url.* http.url http.target http.host http.server_name net.peer.* net.sock.peer.* net.host.* "
        "network.peer.* peer.* db.name db.namespace db.connection_string dns.* tls.client.server_name "
        "destination.* messaging.url rpc.grpc.target upstream.* http.response.header.location graphql.endpoint "
        "browser.url aws.s3.bucket",
    ),
    *_rows(
        _C.CLIENT,
        "this side: its address, its user, its programs",
        "client.* source.* network.local.* net.sock.host.* net.host.ip http.client_ip "
        "http.user_agent user_agent.* enduser.* user.* session.* geo.* device.* host.* process.owner "
        "process.user.* process.saved_user.* process.real_user.* browser.* mobile.*",
    ),
    *_rows(
        _C.TEXT,
        "texts, queries, command lines, files, headers",
        "exception.message exception.stacktrace db.statement db.query.* db.operation.parameter.* graphql.document "
        "http.request.header.* http.response.header.* http.request.body.* http.response.body.* "
        "rpc.request.metadata.* rpc.response.metadata.* rpc.connect_rpc.* process.command "
        "process.command_args process.command_line process.executable.* process.working_directory "
        "process.environment_variable.* file.* log.file.* log.record.original code.filepath code.file.path "
        "code.stacktrace messaging.message.body tls.* x509.* error.message error.stack "
        "gen_ai.prompt gen_ai.completion gen_ai.input.messages gen_ai.output.messages gen_ai.system_instructions "
        "gen_ai.tool.definitions gen_ai.tool.call.arguments gen_ai.tool.call.result",
    ),
    *_rows(
        _C.SECRET,
        "what opens something",
        "http.request.header.authorization http.request.header.proxy-authorization http.request.header.cookie "
        "http.response.header.set-cookie http.request.header.x-api-key enduser.credential",
    ),
    *_rows(
        _C.CODE,
        "names in the code of programs and protocols",
        "exception.type error.type code.function code.function.name code.namespace event.name "
        "rpc.service rpc.method rpc.system db.system db.system.name db.operation db.operation.name "
        "messaging.system messaging.operation messaging.operation.name messaging.operation.type "
        "http.method http.request.method http.request.method_original http.scheme http.flavor url.scheme "
        "network.protocol.name network.transport network.type net.transport net.protocol.name net.sock.family "
        "graphql.operation.type otel.scope.name otel.library.name otel.status_code telemetry.sdk.name "
        "telemetry.sdk.language telemetry.distro.name process.runtime.name os.type host.arch clew.status",
    ),
    *_rows(
        _C.LABEL,
        "what the operator calls the program and where it runs",
        "service.name service.namespace deployment.environment deployment.environment.name",
    ),
    *_rows(
        _C.VERSION,
        "versions",
        "service.version telemetry.sdk.version telemetry.distro.version process.runtime.version os.version "
        "network.protocol.version net.protocol.version tls.protocol.version otel.scope.version",
    ),
    *_rows(
        _C.MEASURE,
        "numbers and yes or no",
        "http.status_code http.response.status_code http.resend_count http.request.resend_count exception.escaped "
        "rpc.grpc.status_code db.response.returned_rows db.operation.batch.size messaging.batch.message_count "
        "code.lineno code.line.number code.column code.column.number tls.resumed clew.unfinished",
    ),
    *_rows(
        _C.BYTES,
        "amounts of traffic",
        "http.request.body.size http.response.body.size http.request.size http.response.size "
        "http.request_content_length http.response_content_length http.request_content_length_uncompressed "
        "http.response_content_length_uncompressed messaging.message.body.size messaging.message.envelope.size "
        "rpc.message.compressed_size rpc.message.uncompressed_size network.io.bytes file.size",
    ),
    *_rows(
        _C.ID,
        "ids of this machine's own",
        "process.pid process.parent_pid process.vpid process.group_leader.pid thread.id",
    ),
    *_rows(
        _C.MACHINE,
        "where the program runs",
        "service.instance.* container.* k8s.* cloud.* faas.* aws.* gcp.* azure.* heroku.* oci.*",
    ),
)

# A program's own names for what is a secret, whatever stands before it: "proxy.password", "api_key".
_SECRET_NAME = re.compile(
    r"(?:^|[._-])(?:password|passwd|passphrase|pwd|secret|token|cookies?|credentials?|authorization|"
    r"(?:api|access|private|signing|session|onion)[._-]?key)(?:$|[._-](?!count|size|length|type|age))",
    re.IGNORECASE,
)

_OF_TOR = {row.name: row for row in ATTRIBUTES}
# What both tables have, an application's span may mean in another way than tor's.
_BY_NAME = {row.name: row for row in (*ATTRIBUTES, *CONVENTIONS)}
_UNDECLARED = Attribute("", Content.UNDECLARED, "")
_APPLICATION = Attribute("", Content.APPLICATION, "")
_SECRET = Attribute("", Content.SECRET, "")


def row_of_tor(name: str) -> Attribute:
    """The row for an attribute of a span that clew made of tor's events."""
    return _OF_TOR.get(name, _UNDECLARED)


@lru_cache(maxsize=4096)
def row_of(name: str) -> Attribute:
    """The row for an attribute of any other span."""
    name = name.lower()
    row = _BY_NAME.get(name)
    if row is not None:
        return row
    is_of_tor = name.startswith(("tor.", "clew."))
    if not is_of_tor and _SECRET_NAME.search(name) is not None:
        return _SECRET
    prefix = name
    while "." in prefix:
        prefix = prefix.rpartition(".")[0]
        if (row := _BY_NAME.get(f"{prefix}.*")) is not None:
            return row
    return _UNDECLARED if is_of_tor else _APPLICATION
