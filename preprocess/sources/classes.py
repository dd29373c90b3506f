"""Names of the classes: what a layout knows, and what --classes and --overlap make of it."""

from preprocess.config import PreprocessConfig

BACKGROUND = "background"

_MOST_BITS = 15  # of the 16, the last says that nothing is known
_MOST_EXCLUSIVE = 254  # and the background; 255 says that nothing is known


def one_kind(default: list[str], config: PreprocessConfig) -> list[str]:
    """Returns the two names of a layout with one kind of object: the default, or those of --classes.

    Raises:
      ValueError: --classes does not name two, or bit fields are asked for.
    """
    refuse_bits(config)
    if config.classes is None:
        return default
    if len(config.classes) != 2:
        raise ValueError(f"classes: expected 2 names, such as [{', '.join(default)}], found {config.classes}")
    return config.classes


def refuse_bits(config: PreprocessConfig) -> None:
    """Raises ValueError if a layout whose classes never overlap is to give bit fields."""
    if config.overlap == "bits":
        raise ValueError("overlap: found bits, but the classes of this layout never overlap; leave it out")


def chosen(known: list[str], overlapping: bool, config: PreprocessConfig) -> list[str]:
    """Returns the names that --classes chooses among the known, in its order; all where it is absent.

    The background is no class here; where classes are exclusive, --classes may name it first.

    Raises:
      ValueError: a name is not known, or there are more classes than a mask can hold.
    """
    names = known if config.classes is None else config.classes
    if config.classes and not overlapping and names[0] == BACKGROUND:
        names = names[1:]
    if strange := [name for name in names if name not in known]:
        raise ValueError(f"classes: expected some of {', '.join(known)}, found {', '.join(strange)}")
    if not names:
        raise ValueError(f"classes: expected at least one of {', '.join(known)}, found none")
    if overlapping and len(names) > _MOST_BITS:
        raise ValueError(
            f"expected at most {_MOST_BITS} classes that overlap, found {len(names)}; "
            "choose some with --classes, or --overlap exclusive"
        )
    if len(names) > _MOST_EXCLUSIVE:
        raise ValueError(f"expected at most {_MOST_EXCLUSIVE} classes, found {len(names)}; choose some with --classes")
    return names


def with_background(names: list[str], overlapping: bool) -> list[str]:
    """Returns the classes by mask value, background first; by bit, without it, where they overlap."""
    return names if overlapping else [BACKGROUND, *names]
