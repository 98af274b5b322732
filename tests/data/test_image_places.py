import pytest

from trl_mm.data.image_places import usual_place
from trl_mm.data.images import ImageError, resolve_image


NUMBER = "000000000009.jpg"


@pytest.mark.parametrize(
    "named", [NUMBER, f"COCO_train2014_{NUMBER}", f"train2017/{NUMBER}", f"./data/coco/COCO_train2014_{NUMBER}"]
)
@pytest.mark.parametrize(
    "place",
    [
        NUMBER,
        f"train2014/COCO_train2014_{NUMBER}",
        f"train2014/{NUMBER}",
        f"val2014/COCO_val2014_{NUMBER}",
        f"train2017/{NUMBER}",
        f"coco/train2017/{NUMBER}",
        f"coco/train2014/COCO_train2014_{NUMBER}",
    ],
)
def test_images_of_coco(tmp_path, named, place):
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_bytes(b"")
    assert resolve_image(named, tmp_path) == {"bytes": None, "path": str(tmp_path / place)}


@pytest.mark.parametrize("named", ["12.jpg", "vg/VG_100K/12.jpg", "VG_100K_2/12.jpg", "./images/VG_100K/12.jpg"])
@pytest.mark.parametrize("place", ["VG_100K/12.jpg", "VG_100K_2/12.jpg", "vg/VG_100K/12.jpg"])
def test_images_of_visual_genome(tmp_path, named, place):
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).write_bytes(b"")
    assert usual_place(named, str(tmp_path)) == str(tmp_path / place)


def test_a_path_from_elsewhere_is_looked_for_at_its_end(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("images/a.png", "b.png", "7.png"):
        (tmp_path / name).write_bytes(b"")
    assert usual_place("data/images/a.png", str(tmp_path)) == str(tmp_path / "images" / "a.png")
    assert usual_place("data/set/b.png", str(tmp_path)) == str(tmp_path / "b.png")
    assert usual_place("images/a.png", str(tmp_path / "images")) == str(tmp_path / "images" / "a.png")


def test_a_mere_number_may_be_another_image(tmp_path):
    for name in ("7.png", "7.jpg"):
        (tmp_path / name).write_bytes(b"")
        assert usual_place(f"set/{name}", str(tmp_path)) is None
        assert usual_place(f"set/{tmp_path.name}/{name}", str(tmp_path)) == str(tmp_path / name)


def test_the_path_itself_comes_first(tmp_path):
    for folder in ("train2014", "set"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / NUMBER).write_bytes(b"")
    assert resolve_image(f"set/{NUMBER}", tmp_path)["path"] == str(tmp_path / "set" / NUMBER)


@pytest.mark.parametrize("named", [f"../{NUMBER}", f"set/../../x/{NUMBER}", f"/data/coco/{NUMBER}"])
def test_no_path_leaves_the_folder(tmp_path, named):
    (tmp_path / NUMBER).write_bytes(b"")
    assert usual_place(named, str(tmp_path)) is None
    with pytest.raises(ValueError, match="leaves the image folder"):
        resolve_image(named, tmp_path)


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / NUMBER).write_bytes(b"")
    (tmp_path / "images" / "train2014").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="leaves the image folder"):
        resolve_image(NUMBER, tmp_path / "images")


def test_what_is_nowhere_is_missing_at_its_own_path(tmp_path):
    with pytest.raises(ImageError, match=rf"{tmp_path}/set/{NUMBER}.* does not exist"):
        resolve_image(f"set/{NUMBER}", tmp_path)
    assert usual_place("", str(tmp_path)) is usual_place("./", str(tmp_path)) is None
