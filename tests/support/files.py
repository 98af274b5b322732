"""Files that tests write and compare."""

import json


def save_rows(file, rows):
    """Write rows of one image each as users have them, in JSONL beside PNG files, and return the path of the JSONL."""
    lines = []
    for index, row in enumerate(rows):
        (image,) = row["images"]
        image.save(file.parent / f"{index}.png")
        lines.append(json.dumps({**row, "images": [f"{index}.png"]}))
    file.write_text("\n".join(lines))
    return file


def contents(folder):
    """The bytes of each file by its name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
