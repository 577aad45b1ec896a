"""Becomes another program that can't outlive its parent, if need be as another user.

Run as `python -I -S tether.py PARENT_PID DEATH_SIGNAL [--user UID GID [CAPABILITY]] -- PROGRAM
ARGUMENTS...`, with the standard library alone. A program of its own rather than a `preexec_fn`: code between
fork and exec can deadlock once there are threads, and the order of the steps below matters. The pid stays,
because the last step is an exec.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP = 28, 1 << 2
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
_CAPABILITY_VERSION_3 = 0x20080522

# What a shell answers for "found, but could not be run"; the caller's log has the sentence.
EXIT_NOT_RUN = 126


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilitySet(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _checked(name: str, result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _permitted_capabilities() -> int:
    with open("/proc/self/status", encoding="ascii") as status:
        return next((int(line.split()[1], 16) for line in status if line.startswith("CapPrm:")), 0)


def become(uid: int, gid: int, capability: int | None) -> None:
    """Gives up root for `uid` and `gid`, keeping of all its rights `capability` alone, by number, or none.

    With one of the two known here a server works below a folder such as /root (mode 0700) that its user can't
    enter. Raises OSError when the kernel refuses.
    """
    if capability is not None:
        capability = _held(capability)
        # So that changing the user leaves the rights alone, and so that access() counts them, which it does
        # not for ordinary users: Postgres looks for its own programs by access().
        _checked("prctl(SECUREBITS)", _libc().prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0))
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if capability is not None:
        _keep_only(capability)


def _held(capability: int) -> int:
    """The capability, or the stronger one in its place: containers leave their root only DAC_OVERRIDE."""
    permitted = _permitted_capabilities()
    for candidate in (capability, CAP_DAC_OVERRIDE):
        if permitted >> candidate & 1:
            return candidate
    raise PermissionError("root has no capability here to read below closed folders")


def _keep_only(capability: int) -> None:
    libc, mask = _libc(), 1 << capability
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    sets = (_CapabilitySet * 2)(_CapabilitySet(mask, mask, mask), _CapabilitySet(0, 0, 0))
    _checked("capset", libc.capset(ctypes.byref(header), sets))
    # "Ambient" is what an ordinary user's process hands on through exec.
    _checked("prctl(AMBIENT)", libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0))


def die_with(parent: int, signal_number: int) -> None:
    """Asks the kernel for `signal_number` when `parent` dies, and ends here if that has already happened.

    Only Linux can promise this; elsewhere a killed parent leaves its children to the next start.
    """
    if sys.platform.startswith("linux"):
        _checked("prctl(PDEATHSIG)", _libc().prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0))
    if os.getppid() != parent:
        raise SystemExit(0)


def main(arguments: list[str]) -> None:
    """Carries out the command line described above; returns only by exec or by exit."""
    split = arguments.index("--")
    options, command = arguments[:split], arguments[split + 1 :]
    parent, death_signal = int(options[0]), int(options[1])
    if "--user" in options:
        at = options.index("--user")
        uid, gid, *capability = (int(option) for option in options[at + 1 :])
        become(uid, gid, capability[0] if capability else None)
    # Only now: the kernel forgets the death signal when a process changes its user.
    die_with(parent, death_signal)
    os.execvp(command[0], command)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        print(f"tether: {error}", file=sys.stderr)
        raise SystemExit(EXIT_NOT_RUN) from error
