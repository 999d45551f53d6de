"""The commands that look into what servers have stored, copy it, and make it live again.

Knows what each does, in which order, what it says, and its exit status: 0 when all went well, 1
when something is damaged or refused, 2 when the command line makes no sense. Must not know how
anything is stored.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from collections.abc import Callable
from os.path import abspath, basename, isdir, isfile, join
from typing import Any, TypeVar

from exraft.errors import ExRaftError, StorageError, StoreDamaged
from exraft.names import Peer
from exraft.rescue.backup import Backup, check_free, open_snapshot, read_backup, write_backup
from exraft.rescue.founding import committed, config_in_force, refounded, renamed
from exraft.rescue.placing import holding, replace_directory
from exraft.rescue.showing import Shown, Span, facts, lines, table_of, whose
from exraft.rescue.telling import busy, complain, next_steps, print_all, print_json, warnings
from exraft.storage.directory import IDENTITY, directory_of, read_identity
from exraft.storage.files import OsFiles
from exraft.storage.image import Image, read_image, write_directory
from exraft.storage.reading import segment_numbers
from exraft.storage.snapshots import snapshot_names

ATTEMPTS = 20
"""How often a backup begins anew because a running server has deleted what was being read."""


class Mistake(Exception):
    """The command line makes no sense; the message says what would."""


def look(path: str, span: Span | None, *, decoding: bool, as_json: bool) -> int:
    """Show and verify a server's directory, all that are below a `data_dir`, or a backup."""

    def work() -> int:
        if isfile(path):
            backup = _reading(path, read_backup)
            return _look_at(backup.image, Shown(backup.created, span, decoding), as_json)
        found = _servers(path)
        if found == [path]:
            return _look_at(_reading(path, read_image), Shown(None, span, decoding), as_json)
        if span is not None:
            raise Mistake(f"{path} has the directories of several servers: name one, {found[0]}")
        images = [_reading(each, read_image) for each in found]
        if as_json:
            print_json([facts(image, Shown()) for image in images])
        else:
            print_all(table_of(images))
            print_all("", f"More of one of them: python -m exraft log {found[0]}")
        return 1 if any(image.problems for image in images) else 0

    return _do(work)


def recover(
    path: str, members: list[str], *, accepted: bool, despite_damage: bool, as_json: bool
) -> int:
    """Let a new cluster go on from one directory of a cluster that has lost its quorum."""

    def work() -> int:
        if not accepted:
            _found(path, members, despite_damage)
            raise Mistake(
                "Nothing was done. If that is what you want, say so: --i-accept-data-loss"
            )
        _own_directory(path)
        with holding(path):
            founded, others = _found(path, members, despite_damage)
            with busy("writing the new directory"):
                place, kept = replace_directory(path, founded, "recover")
        if as_json:
            print_json(_founded(founded, place) | {"kept": kept})
        else:
            print_all(
                f"{place} is the first of a new cluster: id {_cluster(founded)}, term"
                f" {founded.term}, with everything up to index {founded.commit_index}.",
                f"What was there is kept in {kept}.",
                *next_steps(_peer(founded), others),
            )
        return 0

    return _do(work)


def _found(path: str, members: list[str], despite_damage: bool) -> tuple[Image, list[Peer]]:
    """What the first of the new cluster has, and who else is in it. Says what may be lost."""
    image = _of_one_server(path)
    me = _peer(image)
    peers = [Peer(name, me.node) for name in members]
    if me not in peers:
        raise Mistake(f"{path} is of {me}, which must be one of --members")
    if len(set(peers)) < len(peers):
        raise Mistake("--members names a server twice")
    if not despite_damage:
        _refuse_damage(
            image,
            "take another survivor's directory, or a backup. If there is none: with"
            f" --despite-damage the new cluster goes on with index {image.last_index}, and all"
            " that came later is lost",
        )
    others = [peer for peer in peers if peer != me]
    founded = refounded(image, me, others)
    complain(*warnings(image, me, others))
    return founded, others


def rename(path: str, node: str, name: str | None, *, as_json: bool) -> int:
    """Let what was written under one node's name go on under another's."""

    def work() -> int:
        found = _servers(path)
        if name is not None and found != [path]:
            raise Mistake(f"--name is for one server: name its directory, such as {found[0]}")
        done = [_rename(each, node, name) for each in found]
        if as_json:
            print_json(done)
            return 0
        for each in done:
            who = f"{each['path']} is of {each['name']} on {each['node']}"
            if each["kept"] is None:
                print_all(f"{who} already.")
            else:
                print_all(f"{who} now. What was there is kept in {each['kept']}.")
        if found == [path] and name is None:
            print_all("Rename the other members' directories as well, before any is started.")
        return 0

    return _do(work)


def _rename(path: str, node: str, name: str | None) -> dict[str, Any]:
    with holding(path):
        image = _reading(path, read_image)
        old = _peer(image)
        new = Peer(name or old.name, node)
        place, kept = path, None
        if new != old:
            _refuse_damage(image, "see `python -m exraft log`")
            changed = renamed(image, node, name)
            with busy(f"writing {path}"):
                place, kept = replace_directory(path, changed, "rename")
        return {"path": place, "name": new.name, "node": new.node, "kept": kept}


def backup(path: str, file: str, *, force: bool, as_json: bool) -> int:
    """Copy what a server's directory holds and knows to be committed into one file."""

    def work() -> int:
        check_free(abspath(file), overwrite=force)
        for attempt in range(1, ATTEMPTS + 1):
            image = _read_steadily(path)
            _refuse_damage(image, "a backup of it would be none: take another server's")
            try:
                index = _write(committed(image), file, force=force)
                break
            except FileNotFoundError as error:
                # The server has taken a newer snapshot, and deleted the one that was to be read.
                if attempt == ATTEMPTS:
                    raise StorageError(path, "it changes faster than it can be copied") from error
        size = os.path.getsize(file)
        if as_json:
            print_json({"path": abspath(file), "index": index, "bytes": size})
        else:
            print_all(
                f"{file} holds what {whose(image)} knew to be committed, up to index {index}:"
                f" {size:,} bytes."
            )
        return 0

    return _do(work)


def restore(file: str, data_dir: str, name: str, node: str, *, as_json: bool) -> int:
    """Make the directory of the first server of a new cluster from a backup."""

    def work() -> int:
        me = Peer(name, node)
        if not isfile(file):
            raise Mistake(f"there is no file {file}")
        kept = _reading(file, read_backup)
        _refuse_damage(kept.image, "use another backup")
        place = directory_of(data_dir, me)
        if os.path.lexists(place):
            raise StorageError(
                place, "it is there already: name another data_dir or server, nothing is replaced"
            )
        with busy("writing the directory"):
            founded = _restore(kept, data_dir, me)
        if as_json:
            print_json(_founded(founded, place))
        else:
            print_all(
                f"{place} is the first of a new cluster: id {_cluster(founded)}, term"
                f" {founded.term}, with everything up to index {founded.commit_index}.",
                *next_steps(me, []),
            )
        return 0

    return _do(work)


def _restore(kept: Backup, data_dir: str, me: Peer) -> Image:
    try:
        OsFiles().make_directory(data_dir)
        with tempfile.TemporaryDirectory(
            dir=data_dir, prefix=".restore-", suffix=".part"
        ) as beside:
            image = kept.unpack(join(beside, "snapshot"))
            founded = refounded(image, me)
            assert founded.identity is not None
            write_directory(data_dir, founded, peer=me, store_id=founded.identity.store_id)
            return founded
    except OSError as error:
        raise StorageError(data_dir, f"it can't be written: {error}") from error


def _read_steadily(path: str) -> Image:
    """Read a directory at a moment when no record was being written.

    That takes the place of the note that says how far is committed: seen in its midst, the log
    knows of less than was acknowledged. What stays torn was so before.
    """
    image = _of_one_server(path)
    for _ in range(ATTEMPTS):
        torn = _torn(image)
        if not torn:
            break
        image = _of_one_server(path)
        if _torn(image) == torn:
            break
    return image


def _torn(image: Image) -> list[tuple[str, int, int]]:
    return [(each.name, each.used, each.torn) for each in image.files if each.torn]


def _write(image: Image, file: str, *, force: bool) -> int:
    """Write a backup; raises `FileNotFoundError` if the snapshot was deleted meanwhile."""
    reader = None if image.snapshot is None else open_snapshot(image.snapshot_path)
    try:
        total = sum(len(entry.data) for entry in image.entries)
        total += 0 if image.snapshot is None else image.snapshot.size
        with busy(f"writing {file}", total) as progress:
            return write_backup(
                file, _peer(image), reader, image.entries, overwrite=force, progress=progress
            )
    finally:
        if reader is not None:
            reader.close()


# What is there.


def _servers(path: str) -> list[str]:
    """The server's directory that `path` is, or those of the servers below it."""
    if not isdir(path):
        raise Mistake(f"there is no directory {path}")
    if _is_servers(path):
        return [path]
    found = [join(path, name) for name in sorted(os.listdir(path))]
    # Those that were kept when another took their place are no servers'.
    found = [each for each in found if isdir(each) and _is_servers(each) and not _is_kept(each)]
    if not found:
        raise Mistake(
            f"{path} is no server's directory, and has none in it: name the data_dir of a server,"
            " or its own directory below that"
        )
    return found


def _is_servers(path: str) -> bool:
    names = os.listdir(path)
    return IDENTITY in names or bool(segment_numbers(names)) or bool(snapshot_names(names))


def _is_kept(path: str) -> bool:
    try:
        peer = read_identity(OsFiles(), path).peer
    except (OSError, StorageError):
        return False
    return directory_of("", peer) != basename(path)


def _own_directory(path: str) -> None:
    found = _servers(path)
    if found != [path]:
        raise Mistake(f"{path} is no server's own directory: name one, such as {found[0]}")


def _of_one_server(path: str) -> Image:
    _own_directory(path)
    return _reading(path, read_image)


def _peer(image: Image) -> Peer:
    if image.identity is None:
        raise StorageError(
            image.path,
            "it does not say whose it is, and nothing can be made of it: its file"
            f" {IDENTITY} is missing or damaged",
        )
    return image.identity.peer


def _refuse_damage(image: Image, advice: str) -> None:
    if image.problems:
        path, offset, says = image.problems[0]
        raise StoreDamaged(path, f"{says}. Nothing was done: {advice}", offset=offset)


def _look_at(image: Image, shown: Shown, as_json: bool) -> int:
    if as_json:
        print_json(facts(image, shown))
    else:
        print_all(*lines(image, shown))
    return 1 if image.problems else 0


Told = TypeVar("Told")


def _reading(path: str, read: Callable[[str], Told]) -> Told:
    with busy(f"reading {path}"):
        return read(path)


def _founded(image: Image, place: str) -> dict[str, Any]:
    config = config_in_force(image)
    assert image.identity is not None and config is not None
    return {
        "path": place,
        "name": image.identity.name,
        "node": image.identity.node,
        "store": image.identity.store_id,
        "cluster": config.cluster,
        "term": image.term,
        "index": image.commit_index,
        "voters": [peer._asdict() for peer in config.voters],
    }


def _cluster(image: Image) -> str:
    config = config_in_force(image)
    return "" if config is None else config.cluster


def _do(work: Callable[[], int]) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What isn't text in this locale is shown as its code, and ends nothing.
            stream.reconfigure(errors="backslashreplace")
    try:
        return work()
    except Mistake as mistake:
        complain(str(mistake))
        return 2
    except BrokenPipeError:
        raise
    except (ExRaftError, OSError) as error:
        complain(str(error))
        return 1
