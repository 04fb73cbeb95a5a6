"""The .attar file: a safetensors file whose tensors are coded sections and whose metadata are the manifest."""

from attar.archive.base import ArchiveInfo, ArrayInfo, SectionInfo
from attar.archive.read import Archive, read_archive
from attar.archive.write import to_bytes, write_archive

__all__ = ["Archive", "ArchiveInfo", "ArrayInfo", "SectionInfo", "read_archive", "to_bytes", "write_archive"]
