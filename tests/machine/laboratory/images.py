"""Disks to boot from, made once by mmdebstrap and kept: a release with nothing of ours installed, and one prepared.

    bare      what an operator has; all that `./dev` will download lies in it: an apt repository, wheels, uv's cache
    prepared  packages are installed, .venv and .cache are made: `./dev install` has little left to do

A machine reaches no network. Both hold a guest to make containers of: /opt/guests/debian.tar.zst, with systemd.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from machine.laboratory import checkout
from machine.laboratory.places import cache, keep_the_newest, mark_as_used, tell
from machine.laboratory.releases import Release

HERE = Path(__file__).parent
#: Sparse; what is not written takes no place.
DISK_SIZE = "12G"
#: Bytes of memory that the root of an image may take while it is made; it takes about 1.5 GB.
ROOM_IN_MEMORY = 6 << 30
#: Packages of every machine beside kernel and systemd: what an installation by Debian's installer has too.
BASE = (
    *("systemd", "systemd-sysv", "udev", "dbus", "kmod", "initramfs-tools", "iproute2", "procps", "ca-certificates"),
    *("python3", "less", "libpam-systemd", "netbase", "cron"),
)
#: What tests install in a machine by apt-get, beside what `./dev` names. What a release lacks is left out.
INSTALLABLE = (
    *("apparmor", "apparmor-utils", "bird2", "ufw", "firewalld", "iptables", "network-manager"),
    *("systemd-resolved", "ifupdown", "isc-dhcp-client", "dhcpcd", "dhcpcd5", "dhcpcd-base", "dnsmasq"),
    *("radvd", "vlan", "ifenslave", "bridge-utils", "python3-msgspec", "strace", "dmsetup", "fuse3", "needrestart"),
    *("openssh-server", "rsync", "attr", "acl", "conntrack", "socat", "lz4", "lzip", "adduser", "autopkgtest"),
)
#: What cannot be installed beside some of the others.
EXCLUSIVE = ("cloud-init",)
#: In a prepared machine from the start.
PREPARED = ("apparmor",)
GUEST = ("systemd-sysv", "dbus", "iproute2", "iputils-ping", "procps")
#: So many images of a release are kept, the ones used last.
KEPT_IMAGES = 3

AGENT_UNIT = """\
[Unit]
Description=hand of the laboratory
DefaultDependencies=no
After=sysinit.target local-fs.target
Conflicts=shutdown.target

[Service]
ExecStart=/usr/bin/python3 /usr/local/sbin/laboratory-agent
Restart=always
KillMode=process
Environment=HOME=/root LC_ALL=C.UTF-8 UV_OFFLINE=1 OSCTL_TEST_CACHE=/opt/guests

[Install]
WantedBy=multi-user.target
"""
CONSOLE_UNIT = """\
[Service]
ExecStart=
ExecStart=-/bin/bash --login
StandardInput=tty
StandardOutput=tty
StandardError=tty
Environment=HOME=/root TERM=linux
WorkingDirectory=/root
"""
#: Would look for news in archives that a machine does not reach.
MASKED = ("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "man-db.timer", "fstrim.timer")

IN_ROOT = """\
set -e
root=$1; shift
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
touch "$root/etc/resolv.conf"
[ ! -e /etc/resolv.conf ] || mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
exec chroot "$root" "$@"
"""


@dataclass(frozen=True)
class Image:
    """A disk, and what boots it."""

    release: Release
    disk: Path
    kernel: Path
    initrd: Path


def image(release: Release, kind: str) -> Image:
    """The image of a kind, `bare` or `prepared`; made if there is none for what the checkout asks for."""
    folder = cache() / "images" / f"{release.name}-{_key(release)}"
    if not (folder / "complete").exists():
        _make_all(release, folder)
    mark_as_used(folder)
    return Image(release, folder / f"{kind}.raw", folder / "vmlinuz", folder / "initrd")


def _key(release: Release) -> str:
    """What an image depends on. A file of the checkout that changes what `./dev` downloads makes another image."""
    root = checkout.ROOT
    # Which of them are installed from the start makes no difference to what can be tested.
    inputs = [repr(release), *sorted({*_packages_of_dev(), *INSTALLABLE, *EXCLUSIVE})]
    inputs += [(HERE / name).read_text() for name in ("images.py", "agent.py")]
    inputs += [checkout.hash_of(root, map(Path, checkout.FOR_IMAGES)), *_build_dependencies(root)]
    return hashlib.sha256("\0".join(inputs).encode()).hexdigest()[:16]


def _packages_of_dev() -> list[str]:
    names = ("RUN_PACKAGES", "DEVELOPMENT_PACKAGES", "INSTALL_PACKAGES", "TEST_PACKAGES")
    return [each for name in names for each in checkout.packages(name)]


def _build_dependencies(root: Path) -> list[str]:
    """The lines of pyproject.toml that decide which packages of Python are downloaded."""
    names = "requires|build-constraint-dependencies|dependencies|dev|test|lint"
    return re.findall(rf"(?ms)^(?:{names}) = \[.*?\]$", (root / "pyproject.toml").read_text())


def _make_all(release: Release, folder: Path) -> None:
    if os.geteuid() != 0:
        raise PermissionError("images are made by root")
    keep_the_newest(cache() / "images", f"{release.name}-*", KEPT_IMAGES - 1)
    folder.parent.mkdir(parents=True, exist_ok=True)
    tell(f"making the images of {release.name}: some minutes, once")
    with (
        tempfile.TemporaryDirectory(prefix="osctl-image-", dir=_where_files_are_cheap(folder.parent)) as work,
        # Beside the result, so that it is moved in one step.
        tempfile.TemporaryDirectory(prefix="unfinished-", dir=folder.parent) as unfinished,
    ):
        made = Path(unfinished) / "made"
        try:
            _Builder(release, Path(work), made).make()
        except subprocess.CalledProcessError as error:
            log = (Path(work) / "log").read_text(errors="replace").splitlines()
            raise RuntimeError("\n".join([f"{error}; the log's end:", *log[-25:]])) from None
        (made / "complete").touch()
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)


def _where_files_are_cheap(otherwise: Path) -> Path:
    """In memory if there is plenty: a package manager waits for the disk most of its time."""
    memory = Path("/dev/shm")
    if memory.is_dir():
        about = os.statvfs(memory)
        if about.f_bavail * about.f_frsize >= ROOM_IN_MEMORY and not about.f_flag & (os.ST_NOEXEC | os.ST_NODEV):
            return memory
    return otherwise


class _Builder:
    """Makes both images of a release, in a folder that is taken away afterwards."""

    def __init__(self, release: Release, work: Path, made: Path) -> None:
        self.release = release
        self.work = work
        self.made = made
        self.root = work / "root"

    def make(self) -> None:
        self.made.mkdir()
        guest = self._guest()
        self._bootstrap(self.root, (*BASE, self.release.kernel, *self.release.other_packages))
        try:
            (self.root / "opt/guests").mkdir()
            shutil.copy(guest, self.root / "opt/guests/debian.tar.zst")
            self._download_packages()
            self._download_wheels()
            self._unpack_checkout()
            self._fill_cache_of_uv()
            self._go_offline()
            self._configure()
            shutil.copy(next(iter(sorted((self.root / "boot").glob("vmlinuz-*")))), self.made / "vmlinuz")
            shutil.copy(next(iter(sorted((self.root / "boot").glob("initrd.img-*")))), self.made / "initrd")
            shutil.rmtree(self.root / "root/osctl")
            self._make_disk("bare")
            self._unpack_checkout()
            self._prepare()
            shutil.rmtree(self.root / "root/osctl/src")  # tests bring their own; .venv and .cache stay
            self._make_disk("prepared")
        finally:
            shutil.rmtree(self.root, ignore_errors=True)

    # --- steps --------------------------------------------------------------------------------------------------

    def _bootstrap(self, target: Path, packages: Iterable[str]) -> None:
        components = "main,universe" if self.release.vendor == "ubuntu" else "main"
        argv = [
            *("mmdebstrap", "--variant=minbase", f"--components={components}"),
            *('--aptopt=Acquire::Languages "none"', "--dpkgopt=force-unsafe-io"),
            *(f"--include={','.join(packages)}", self.release.suite, str(target)),
        ]
        mirror = configured_mirror(self.release.vendor)
        self._run(*argv, *([mirror] if mirror else []))

    def _guest(self) -> Path:
        """A container's root with systemd, of the same release; made once for all images of it."""
        key = hashlib.sha256(repr((self.release, GUEST)).encode()).hexdigest()[:16]
        kept = cache() / "images" / f"guest-{self.release.name}-{key}.tar.zst"
        if not kept.exists():
            self._bootstrap(self.work / "guest.tar.zst", GUEST)
            shutil.move(self.work / "guest.tar.zst", kept)
        return kept

    def _download_packages(self) -> None:
        proxies = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=False).stdout
        configuration = self.root / "etc/apt/apt.conf.d/00laboratory"
        configuration.write_text("".join(f"{each}\n" for each in proxies.splitlines() if "::Proxy" in each))
        self._in_root("apt-get", "-qq", "update")
        # At once, which takes seconds rather than minutes; by themselves those that exclude others.
        script = """
            apt-cache pkgnames | sort >/tmp/names
            set -- $(printf '%s\\n' "$@" | sort -u | comm -12 - /tmp/names)
            rm /tmp/names
            download='apt-get -qq -y install --no-install-recommends --download-only'
            $download "$@" || for name; do $download "$name"; done
        """
        self._in_root("sh", "-ec", script, "sh", *_packages_of_dev(), *INSTALLABLE)
        for alone in EXCLUSIVE:
            self._in_root("sh", "-ec", script, "sh", alone)
        configuration.unlink()
        repository = self.root / "opt/packages"
        repository.mkdir()
        index = []
        for each in sorted((self.root / "var/cache/apt/archives").glob("*.deb")):
            described = subprocess.run(["dpkg-deb", "-f", each], capture_output=True, text=True, check=True).stdout
            digest = hashlib.sha256(each.read_bytes()).hexdigest()
            index.append(f"{described}Filename: ./{each.name}\nSize: {each.stat().st_size}\nSHA256: {digest}\n")
            each.rename(repository / each.name)
        (repository / "Packages").write_text("\n".join(index))

    def _download_wheels(self) -> None:
        wheels = self.root / "opt/wheels"
        wheels.mkdir()
        version = self._python_of_the_root()
        its_own = ("--python-version", version, "--implementation", "cp", "--abi", f"cp{version}")
        for requirements, more in (
            ("packaging/tools.txt", ()),
            ("packaging/requirements.txt", its_own),
        ):
            self._run(
                *(str(checkout.ROOT / ".cache/tools/bin/python"), "-m", "pip", "download", "--quiet", "--no-deps"),
                *("--disable-pip-version-check", "--only-binary=:all:", "--require-hashes"),
                *("--platform", f"manylinux2014_{os.uname().machine}", *more),
                *("-r", str(checkout.ROOT / requirements), "-d", str(wheels)),
            )

    def _python_of_the_root(self) -> str:
        """The version of the release's own interpreter, as wheels name it: 311."""
        return (self.root / "usr/bin/python3").readlink().name.removeprefix("python").replace(".", "")

    def _unpack_checkout(self) -> None:
        target = self.root / "root/osctl"
        target.mkdir()
        subprocess.run(["tar", "-xzf", "-", "-C", target], input=checkout.archive(), check=True)

    def _fill_cache_of_uv(self) -> None:
        """By the same calls as `./dev`, with the machine's own Python; what was made of the product is taken away."""
        shutil.copy(checkout.ROOT / ".cache/tools/bin/uv", self.root / "tmp/uv")
        certificates = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
        shutil.copy(certificates, self.root / "tmp/certificates.crt")
        script = """
            cd /root/osctl
            /tmp/uv sync --frozen --quiet
            rm -rf .venv
            /tmp/uv sync --frozen --quiet --no-dev --no-editable
            rm -rf .venv
            /tmp/uv cache clean --quiet osctl
            rm /tmp/uv /tmp/certificates.crt
        """
        passed = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(("UV_INDEX", "UV_DEFAULT_INDEX")) or name.lower().endswith("_proxy")
        }
        given = {
            "UV_PYTHON": "/usr/bin/python3",
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_LINK_MODE": "copy",
            "SSL_CERT_FILE": "/tmp/certificates.crt",
        }
        self._in_root("sh", "-ec", script, environment={**passed, **given})

    def _go_offline(self) -> None:
        for each in [*(self.root / "etc/apt/sources.list.d").iterdir(), *(self.root / "var/lib/apt/lists").glob("*_*")]:
            each.unlink()
        (self.root / "etc/apt/sources.list").write_text("deb [trusted=yes] file:/opt/packages ./\n")
        self._in_root("apt-get", "-qq", "update")
        (self.root / "etc/pip.conf").write_text("[global]\nno-index = true\nfind-links = /opt/wheels\n")
        with (self.root / "etc/environment").open("a") as environment:
            environment.write("UV_OFFLINE=1\n")
        (self.root / "etc/resolv.conf").write_text("")

    def _configure(self) -> None:
        name = self.release.name.replace(".", "-")
        units = self.root / "etc/systemd/system"
        written = {
            "etc/hostname": f"{name}\n",
            "etc/hosts": f"127.0.0.1 localhost {name}\n::1 localhost\n",
            "etc/fstab": "/dev/vda / ext4 defaults,errors=remount-ro 0 1\n",
            "etc/machine-id": "",
            "etc/systemd/system/laboratory-agent.service": AGENT_UNIT,
            "etc/systemd/system/serial-getty@ttyS0.service.d/laboratory.conf": CONSOLE_UNIT,
        }
        for path, text in written.items():
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_text(text)
        agent = self.root / "usr/local/sbin/laboratory-agent"
        shutil.copy(HERE / "agent.py", agent)
        agent.chmod(0o755)
        (units / "multi-user.target.wants").mkdir(exist_ok=True)
        (units / "multi-user.target.wants/laboratory-agent.service").symlink_to("../laboratory-agent.service")
        for each in MASKED:
            (units / each).symlink_to("/dev/null")
        (self.root / "var/log/journal").mkdir(parents=True, exist_ok=True)
        self._in_root("passwd", "-d", "root")

    def _prepare(self) -> None:
        names = " ".join([*PREPARED, *_packages_of_dev()])
        script = f"""
            cd /root/osctl
            ./dev setup
            # Tried, so that .cache has what it fetches.
            DESTDIR=/tmp/tried ./dev install
            rm -rf /tmp/tried
            apt-get -qq -y install --no-install-recommends {names}
            apt-get clean
            # As ./dev leaves them: nobody has configured them, and BIRD fails where there is no network.
            rm -f /etc/systemd/system/multi-user.target.wants/bird.service
            rm -f /etc/systemd/system/multi-user.target.wants/frr.service
            # Profiles of programs that are not there: an emulated processor takes minutes to compile them.
            for profile in /etc/apparmor.d/*; do
                case ${{profile##*/}} in *lxc* | *osctl*) continue ;; esac
                [ ! -f "$profile" ] || ln -sf "$profile" /etc/apparmor.d/disable/
            done
        """
        self._in_root("sh", "-ec", script, environment={"UV_OFFLINE": "1"})

    def _make_disk(self, kind: str) -> None:
        self._run("mke2fs", "-q", "-t", "ext4", "-d", str(self.root), str(self.made / f"{kind}.raw"), DISK_SIZE)

    # --- how ----------------------------------------------------------------------------------------------------

    def _in_root(self, *argv: str, environment: Mapping[str, str] | None = None) -> None:
        """Run a program in the root, with mounts that nobody else sees and that end with it."""
        given = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LC_ALL": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
            **(environment or {}),
        }
        program = ["env", "-i", *(f"{name}={value}" for name, value in given.items()), *argv]
        private = ["unshare", "--mount", "--propagation", "private"]
        self._run(*private, "sh", "-c", IN_ROOT, "sh", str(self.root), *program)

    def _run(self, *argv: str) -> None:
        with (self.work / "log").open("a") as log:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            status = process.wait()
        except BaseException:  # Ctrl-C: the program takes away what it made, and is waited for
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(30)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
        if status:
            raise subprocess.CalledProcessError(status, argv)


def configured_mirror(vendor: str) -> str | None:
    """Where this machine gets the packages of its own release; nothing for another vendor's, then mmdebstrap knows."""
    about = dict(re.findall(r'(?m)^(\w+)="?([^"\n]*)"?$', Path("/etc/os-release").read_text()))
    if about.get("ID") != vendor:
        return None
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for line in listed.splitlines():
        suite, _, uri = line.partition(" ")
        if suite == about.get("VERSION_CODENAME"):
            return uri.rstrip("/")
    return None
