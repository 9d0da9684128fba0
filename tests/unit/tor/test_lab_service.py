"""When an onion service can be reached, from what its tor tells."""

from __future__ import annotations

from clew.tor.events import HsDescEvent, OrConnEvent, Relay
from clew.tor.lab_service import Publication

RELAYS = [Relay(f"{number:040X}", f"relay{number}") for number in range(3)]


def tell(publication: Publication, action: str, descriptor: str | None = None, directory: int | None = None) -> None:
    """An event of a service's tor. tor does not say which descriptor an answer is about."""
    hs_dir = None if directory is None else RELAYS[directory]
    publication.handle(HsDescEvent(0, action, "x" * 56, "UNKNOWN", hs_dir, descriptor))


def test_nothing_yet() -> None:
    """Neither before descriptors are made, nor before they are sent; other events do not matter."""
    publication = Publication()
    assert publication.share == 0
    publication.handle(OrConnEvent(0, "x", "LAUNCHED"))
    assert publication.share == 0
    tell(publication, "CREATED", "now")
    tell(publication, "CREATED", "next")
    assert publication.share == 0


def test_published() -> None:
    """It is done when every directory has both descriptors, and not before."""
    publication = Publication()
    for descriptor in ("now", "next"):
        tell(publication, "CREATED", descriptor)
    for descriptor in ("now", "next"):
        for directory in range(3):
            tell(publication, "UPLOAD", descriptor, directory)
    shares = []
    for directory in (0, 1, 1, 2, 0, 2):
        tell(publication, "UPLOADED", None, directory)
        shares.append(publication.share)
    assert shares[-2] < shares[-1] == 1
    assert shares == sorted(shares)


def test_one_descriptor_is_not_enough() -> None:
    """The hour decides which one a client asks for."""
    publication = Publication()
    tell(publication, "CREATED", "now")
    tell(publication, "CREATED", "next")
    tell(publication, "UPLOAD", "now", 0)
    tell(publication, "UPLOADED", None, 0)
    assert publication.share < 1
    tell(publication, "UPLOAD", "next", 1)
    tell(publication, "UPLOADED", None, 1)
    assert publication.share == 1


def test_a_directory_that_refuses() -> None:
    """Clients go on to the next; but there must be one."""
    publication = Publication()
    tell(publication, "UPLOAD", "now", 0)
    tell(publication, "FAILED", "now", 0)
    assert publication.share < 1
    tell(publication, "UPLOAD", "now", 1)
    tell(publication, "UPLOADED", None, 1)
    assert publication.share == 1
