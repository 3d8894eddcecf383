"""A source of images in folders, one for each class."""

from collections.abc import Iterator, Mapping, Sequence
import os
import pathlib

import numpy as np

from tsjax.core import errors
from tsjax.data import images, lazy, splits

__all__ = ["image_folder"]

# Folder of a split -> our name of it.
_SPLITS = {
  "train": "train",
  "test": "test",
  "validation": "validation",
  "val": "validation",
  "valid": "validation",
}
# What systems leave behind in folders without hiding it.
_LEFT_BEHIND = ("Thumbs.db", "desktop.ini", "__MACOSX")


def image_folder(
  path: str | os.PathLike[str],
  size: int | tuple[int, int],
  *,
  channels: int = 3,
  test: float = 0.2,
  classes: Sequence[str] | None = None,
  seed: int = 0,
  keep_in_memory: bool | None = None,
  memory_limit: int = 2**28,
) -> lazy.Lazy:
  """Images in folders: PATH/train/CLASS/*.png and PATH/test/CLASS/*.png.

  Fields: `image` uint8 [height, width, channels], and `label`. Without folders
  of splits, PATH/CLASS/*, a share is the test split. PNG, JPEG, WebP and BMP;
  hidden files are left out. Images are decoded when they are read.

  Args:
    path: the folder; `~` is the home folder. Besides `train` it may hold
      `test` and `validation` (or `val`, `valid`).
    size: (height, width), or one number for both, to which every image is
      stretched, see `images.decode`.
    channels: 1 (grey), 3 (RGB) or 4 (RGBA), to which every image is converted.
    test: share of the images that is the test split, stratified by class,
      where the folder has none.
    classes: names of the folders in the order of the classes; None sorts them.
    seed: of the share.
    keep_in_memory: whether a split is decoded once and kept; None keeps the
      images if all of them take no more than `memory_limit`.
    memory_limit: bytes.

  Raises:
    UserError: there is no such folder, a class has no image or stands in one
      split only, or a file is no image; names the file.
  """
  path = pathlib.Path(path).expanduser()
  name = f"image_folder {path}"
  size = images.size_of(name, size)
  images.check_channels(name, channels)
  if not path.is_dir():
    there = [p.name for p in _visible(path.parent)]
    raise errors.UserError(
      f"{name}: there is no such folder; {errors.nearest(path.name, there)}"
    )
  folders = {s: _classes(name, f) for s, f in _splits(name, path).items()}
  names = _names(name, folders, classes)
  files: dict[str, list[str]] = {}
  labels: dict[str, np.ndarray] = {}
  for split, by_class in folders.items():
    lists = [list(_images(name, by_class[c])) for c in names]
    files[split] = [file for one in lists for file in one]
    labels[split] = np.repeat(
      np.arange(len(names), dtype=np.int32), [len(one) for one in lists]
    )
  if "test" not in files:
    chosen = splits.divide(labels["train"], test, seed, key="test")
    both, both_labels = np.array(files["train"], object), labels["train"]
    for split, rows in (("train", ~chosen), ("test", chosen)):
      files[split], labels[split] = both[rows].tolist(), both_labels[rows]
  sizes = {split: len(one) for split, one in files.items()}
  if keep_in_memory is None:
    each = size[0] * size[1] * channels
    keep_in_memory = sum(sizes.values()) * each <= memory_limit

  def decode(split: str, rows: np.ndarray) -> dict[str, np.ndarray]:
    pixels = np.empty((len(rows), *size, channels), np.uint8)
    for i, row in enumerate(rows):
      file = files[split][row]
      pixels[i] = images.decode(f"{name}: {file}", file, size, channels)
    return {"image": pixels}

  return lazy.Lazy(name, sizes, names, labels, decode, keep_in_memory)


def _splits(name: str, path: pathlib.Path) -> dict[str, pathlib.Path]:
  """Split -> its folder; only "train" where the folder has no splits."""
  # Without folders in it, it is a class of that name.
  if not any(p.is_dir() for p in _visible(path / "train")):
    return {"train": path}
  found: dict[str, pathlib.Path] = {}
  for folder in _visible(path):
    split = _SPLITS.get(folder.name)
    if not folder.is_dir() or split is None:
      raise errors.UserError(
        f"{name}: {folder} is no split: {errors.nearest(folder.name, _SPLITS)};"
        " move it out of the folder"
      )
    if split in found:
      raise errors.UserError(
        f"{name}: {found[split].name} and {folder.name} are both the"
        f" {split} split; keep one"
      )
    found[split] = folder
  # The first that is wrong is then told of train.
  return dict(sorted(found.items(), key=lambda item: item[0] != "train"))


def _classes(name: str, path: pathlib.Path) -> dict[str, pathlib.Path]:
  """Class -> its folder."""
  found = {}
  for folder in _visible(path):
    if not folder.is_dir():
      raise errors.UserError(
        f"{name}: {folder} lies beside the folders of the classes; move it into"
        " one, or out"
      )
    found[folder.name] = folder
  if not found:
    raise errors.UserError(
      f"{name}: {path} holds no folder of a class; put the images of each class"
      " into a folder of its name"
    )
  return found


def _names(
  name: str,
  folders: Mapping[str, Mapping[str, pathlib.Path]],
  classes: Sequence[str] | None,
) -> tuple[str, ...]:
  """The classes, which every split has."""
  told = "classes="
  if classes is None:
    classes, told = sorted(folders["train"]), "train"
  names = tuple(map(str, classes))
  for split, by_class in folders.items():
    for one in names:
      if one not in by_class:
        raise errors.UserError(
          f"{name}: {split} has no folder of class {one!r}, which {told} has;"
          f" {errors.nearest(one, by_class)}"
        )
    for one in by_class:
      if one not in names:
        raise errors.UserError(
          f"{name}: {split} has a folder of class {one!r}, which {told} has"
          f" not; {errors.nearest(one, names)}"
        )
  return names


def _images(name: str, folder: pathlib.Path) -> Iterator[str]:
  """Yields the files of a class, each of which begins as an image does."""
  empty = True
  for file in _visible(folder):
    told = f"{name}: {file}"
    if file.is_dir():
      raise errors.UserError(
        f"{told} is a folder; images lie right in the folder of their class"
      )
    if file.suffix.lower() not in images.SUFFIXES:
      raise errors.UserError(
        f"{told} is no image ({', '.join(images.SUFFIXES)}); move it out of the"
        " folder, or convert it"
      )
    # Now, and not when the test split is read after hours of training.
    images.check(told, file)
    empty = False
    yield str(file)
  if empty:
    raise errors.UserError(
      f"{name}: {folder} holds no image; fill the class or take its folder away"
    )


def _visible(folder: pathlib.Path) -> list[pathlib.Path]:
  """What is in a folder and not hidden, sorted by name."""
  if not folder.is_dir():
    return []
  with os.scandir(folder) as entries:
    names = sorted(
      entry.name
      for entry in entries
      if not entry.name.startswith(".") and entry.name not in _LEFT_BEHIND
    )
  return [folder / name for name in names]
