"""A circuit in a private Tor network on this machine, chosen relay by relay, traced hop by hop.

Run it: python examples/circuit.py      (needs tor: sudo apt-get install tor; the first start takes half a minute)
"""

from __future__ import annotations

from clew import StdoutExporter, Tracer
from clew.tor.control import ControlClient
from clew.tor.lab import Lab
from clew.tor.manager import CircuitManager
from clew.tor.privacy import Privacy


def main() -> None:
    with (
        Lab() as lab,
        Tracer("circuit-example", exporter=StdoutExporter(pretty=True)) as tracer,
        ControlClient.connect(lab.control) as control,
        CircuitManager(control, tracer, privacy=Privacy.LAB) as manager,
    ):
        relays = [relay for relay in control.relays() if "Authority" not in relay.flags]
        last = next(relay for relay in relays if "Exit" in relay.flags)
        first, middle, *_ = [relay for relay in relays if relay is not last]
        circuit = manager.create_circuit([relay.fingerprint for relay in (first, middle, last)])
        manager.close_circuit(circuit)


if __name__ == "__main__":
    main()
