"""A machine of its own for the cluster's node: processes, mounts and network apart from this one's.

Its first process ends when whoever made it closes its standard input or dies, and the kernel then ends all others in
it, with their mounts, interfaces and firewall rules. What is left are a folder and control groups, which `end` removes.
"""

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

CONTROLLERS: Final = Path("/sys/fs/cgroup")
ADDRESS: Final = "10.30.0.1"
"""Of the node, in its own network; those of pods are in 10.20.0.0/16, those of Services in 10.96.0.0/16."""
UNTOUCHED: Final = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What the kubelet would set for the whole machine: the node sees these as set already."""
OWN: Final = ("/var/lib", "/var/log")
"""Folders of which the node has its own."""
SHARES: Final = "4096"
"""Of the processor: all pods together would else get as much of a busy machine as one process."""
PREPARE: Final = """set -eu
{mounts}
mount -t tmpfs -o mode=755 tmpfs /run
ip link set lo up
ip link add node0 type veth peer name node1
ip link set node1 up
ip link set node0 up
ip address add {address}/24 dev node0
ip route add default dev node0
echo 1 >/proc/sys/net/ipv4/ip_forward
"""


@dataclass
class Node:
    """One that runs."""

    folder: Path
    program: Path
    first: subprocess.Popen[bytes]
    pid: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """Name of its control groups."""
        return self.folder.name

    def within(self, *command: str | Path, network: bool = True) -> tuple[str, ...]:
        """The command, run in the node; without its network, in this machine's."""
        entered = ("--mount", "--pid", "--ipc", *(("--net",) if network else ()))
        return ("nsenter", f"--target={self.pid}", *entered, "--", *map(str, command))

    def beside(self, *command: str | Path) -> tuple[str, ...]:
        """The command, run on this machine but for the network, which is the node's."""
        return ("nsenter", f"--net=/proc/{self.pid}/ns/net", "--", *map(str, command))

    def start(self, name: str, *arguments: str | Path, program: str | None = None, network: bool = True) -> None:
        """One of the program's programs, by its name, or another program; its log is `<name>.log`."""
        command = (program, *arguments) if program else (self.program, name, *arguments)
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                self.within(*command, network=network), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def ended(self) -> Iterator[str]:
        """Processes that ended by themselves, with the last of what they said."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                said = (self.folder / f"{name}.log").read_text(errors="replace").splitlines()
                yield "\n".join((f"{name} ended with {process.returncode}:", *said[-5:]))

    def end(self) -> None:
        """Nothing of it is left but the folder."""
        for process in self.processes.values():
            process.terminate()
        assert self.first.stdin is not None
        self.first.stdin.close()
        self.first.wait(60)
        for process in self.processes.values():
            process.wait(60)
        end = time.monotonic() + 30
        while groups := [group for each in _hierarchies() if (group := each / self.group).exists()]:
            for group in groups:
                for path, _, _ in os.walk(group, topdown=False):
                    try:
                        Path(path).rmdir()
                    except OSError:  # its last processes are ending
                        assert time.monotonic() < end, f"{path} is still there"
                        time.sleep(0.1)


def started(folder: Path, program: Path) -> Node:
    """A node whose state is in the folder, with nothing running in it yet."""
    apart = ("unshare", "--net", "--mount", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc")
    first = subprocess.Popen((*apart, program, "node"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    said: IO[bytes] | None = first.stdout
    assert said is not None
    with said:
        assert said.readline() == b"ready\n", "no namespaces can be made here"
    (pid,) = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
    node = Node(folder, program, first, int(pid))
    try:
        _prepare(node)
    except BaseException:
        node.end()
        raise
    return node


def _prepare(node: Node) -> None:
    folder, mounts = node.folder, []
    for number, (name, value) in enumerate(UNTOUCHED.items()):
        (folder / f"kernel{number}").write_text(f"{value}\n")
        mounts.append(f"mount --bind {folder}/kernel{number} /proc/sys/{name}")
    for name in OWN:
        (folder / "node" / name.strip("/")).mkdir(parents=True)
        mounts.append(f"mount --bind {folder}/node{name} {name}")
    prepare = PREPARE.format(mounts="\n".join(mounts), address=ADDRESS)
    subprocess.run(node.within("bash", "-c", prepare), check=True)
    for controller in _hierarchies():
        group = controller / node.group
        group.mkdir()
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (controller / name).exists():
                (group / name).write_text((controller / name).read_text())
        if (group / "cpu.shares").exists():
            (group / "cpu.shares").write_text(SHARES)


def _hierarchies() -> list[Path]:
    """Where control groups are made: one place, or one for each controller (version 1)."""
    if (CONTROLLERS / "cgroup.controllers").exists():
        return [CONTROLLERS]
    return [each for each in CONTROLLERS.iterdir() if not each.is_symlink() and (each / "cgroup.procs").exists()]
