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
        exits = [relay for relay in control.relays() if "Exit" in relay.flags]
        guard, middle, *_ = [relay for relay in control.relays() if relay not in exits[:1]]
        circuit = manager.create_circuit([guard.fingerprint, middle.fingerprint, exits[0].fingerprint])
        manager.close_circuit(circuit)


if __name__ == "__main__":
    main()
