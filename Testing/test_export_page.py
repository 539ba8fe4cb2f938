"""A case as one HTML page, tried in a real browser, and as a widget of a notebook."""

import base64
import gzip
import hashlib
import html
import json
import re
import shutil
import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest
from small_explanations import BRIGHT, LABELS, SHAPE, bright_attribution, write_explanation

from Agg2ExpLib.cli import main
from Agg2ExpLib.errors import InputError, OutputError
from Agg2ExpLib.export import view, write_page
from Agg2ExpLib.export.page import Thinned
from Agg2ExpLib.volume import read_volume, reorient

EVIL = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    labels = (*LABELS[:4], EVIL, LABELS[5])
    return write_explanation(tmp_path_factory.mktemp("case") / "explanation", "flipped", labels=labels)


@pytest.fixture(scope="module")
def page(case):
    return write_page(case, case.folder.parent / "page.html")


def data_of(path):
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)[1])


def unpacked(text, kind):
    return np.frombuffer(gzip.decompress(base64.b64decode(text)), kind)


def test_the_pictures_are_the_cases_volumes_in_the_patients_directions(case, page):
    data = data_of(page)
    expected = reorient(case.attribution("heart")).voxels
    shown = unpacked(data["classes"][0]["map"], np.int8).reshape(data["shape"])
    assert data["shape"] == list(SHAPE)
    # The strongest 0.1 % share a colour; where the very strongest is, is told apart.
    np.testing.assert_allclose(shown / 127 * 0.9, np.minimum(expected, 0.9), atol=0.01)
    spot = data["classes"][0]["spot"]
    assert expected[tuple(spot)] == 1
    nodule = next(row for row in data["classes"][0]["rows"] if data["rois"][row["roi"]]["region"] == 0)
    heart = next(row for row in data["classes"][0]["rows"] if data["rois"][row["roi"]]["label"] == 1)
    assert nodule["spot"] == spot
    assert reorient(case.model_prediction()).voxels[tuple(heart["spot"])] == 1
    labels = unpacked(data["labels"], np.uint8).reshape(data["shape"])
    np.testing.assert_array_equal(labels, reorient(case.model_prediction()).voxels)
    grey = np.array(data["levels"])[unpacked(data["image"], np.uint8)].reshape(data["shape"])
    hu = reorient(case.model_image()).voxels
    assert np.abs(grey - hu)[hu > -200].max() <= 2.5
    assert np.abs(grey - hu).max() <= 6
    nodule = unpacked(data["regions"][0], np.uint8).reshape(data["shape"])
    np.testing.assert_array_equal(nodule, reorient(case.region("nodule")).voxels)


def test_the_tables_numbers_are_exact(case, page):
    table, data = case.importance, data_of(page)
    for told, name in zip(data["classes"], case.explained, strict=True):
        for row in told["rows"]:
            for measure in ("mass", "enrichment", "positive", "negative"):
                value = table.matrix(measure)[table.classes.index(name), row["roi"]]
                assert row[measure][0] == (value if np.isfinite(value) else None)
            assert row["size"][0] == table.matrix("voxels")[0, row["roi"]] / np.prod(SHAPE)


def test_the_sentence_says_where_most_lies(page):
    told = data_of(page)
    heart = told["classes"][0]["sentence"]
    assert re.match(r"Of what the model relied on to draw heart, \d+% lies in lung lower lobe left, ", heart)
    assert "Beside itself it relied most on nodule for its size" in heart.replace("lung nodule", "nodule")
    # Many times the size of next to nothing is next to nothing: the share stands beside it.
    (nodule,) = [row for row in told["classes"][0]["rows"] if told["rois"][row["roi"]]["name"] == "lung nodule"]
    assert heart.endswith(f" by chance, {nodule['mass'][1]} in all.")


def test_names_are_text_and_never_a_part_of_the_page(page):
    text = page.read_text(encoding="utf-8")
    assert "onerror" in text
    assert "<img" not in text
    assert text.count("</script>") == 2


def test_a_large_case_is_thinned_to_its_limit_and_the_page_says_so(case, page, tmp_path):
    small = write_page(case, tmp_path / "small.html", most_voxels=2000)
    data = data_of(small)
    assert np.prod(data["shape"]) <= 2000
    assert "are shown as one" in data["notes"]
    # The strongest voxel is still there, at its place.
    shown = unpacked(data["classes"][0]["map"], np.int8).reshape(data["shape"])
    # 'flipped' runs against the patient's x and y.
    place = np.array([SHAPE[0] - 1 - BRIGHT[0], SHAPE[1] - 1 - BRIGHT[1], BRIGHT[2]])
    block = place // np.ceil(np.array(SHAPE) / data["shape"]).astype(int)
    assert shown[tuple(block)] == 127
    assert data["classes"][0]["spot"] == block.tolist()
    whole = data_of(page)["classes"][0]["rows"]
    assert [row | {"spot": None} for row in data["classes"][0]["rows"]] == [row | {"spot": None} for row in whole]


def test_blocks_keep_the_strongest_value_with_its_sign_and_any_voxel_of_a_region():
    values = np.zeros((3, 2, 2), np.float32)
    values[1, 1, 0], values[0, 0, 0], values[2, 1, 1] = -3.0, 2.0, 1.0
    two = Thinned((2, 2, 2))
    np.testing.assert_array_equal(two.strongest(values).ravel(), [-3.0, 1.0])
    np.testing.assert_array_equal(two.any(values > 1.5).ravel(), [True, False])
    assert two.mean(values).shape == (2, 1, 1)
    labels = np.arange(8).reshape(2, 2, 2)
    assert two.nearest(labels).item() == labels[1, 1, 1]


def test_from_the_command_line_and_never_over_another_file(case, tmp_path, capsys):
    out = tmp_path / "page.html"
    words = ["export", str(case.folder), "--html", str(out), "--classes", "heart", "--progress", "none"]
    assert main(words) == 0
    assert [one["name"] for one in data_of(out)["classes"]] == ["heart"]
    before = out.read_bytes()
    assert main(words) == 2
    assert "exists already" in capsys.readouterr().err
    assert out.read_bytes() == before
    with pytest.raises(OutputError):
        write_page(case, out)
    with pytest.raises(InputError, match="no attribution of 'ribs'"):
        write_page(case, tmp_path / "other.html", classes=["ribs"])
    assert main([*words[:4], "--classes", "ribbs"]) == 2
    # Of what is explained alone: the table has a row of an absent class too.
    assert capsys.readouterr().err.strip().endswith("known names: heart, lung_lower_lobe_left")
    assert main([*words[:-4], "--overwrite", "--progress", "none"]) == 0
    assert len(data_of(out)["classes"]) == 2
    # Before the minutes that DICOM takes.
    both = [*words[:4], "--dicom", str(tmp_path / "objects"), "--progress", "none"]
    assert main(both) == 2
    assert "give another --html" in capsys.readouterr().err


# What a reader does, one after the other; what the page then shows goes into an element of its own.
READER = """
(async () => {
  while (!document.body.dataset.ready) await new Promise((done) => setTimeout(done, 20));
  const found = {}, q = (one) => document.querySelector(one), views = [...document.querySelectorAll("figure")];
  const told = () => views.map((one) => one.querySelector("figcaption span + span").textContent);
  const first = () => q("#rows td button").textContent;
  const canvas = views[0].querySelector("canvas");
  const colour = () => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const warm = (data) => { let n = 0; for (let i = 0; i < data.length; i += 4) n += data[i] > 150 && data[i + 2] < 140; return n; };
  found.start = told();
  found.wrong = q("#wrong").textContent;
  found.sentence = q("#sentence").textContent;
  found.names = [...document.querySelectorAll("#rows td button")].map((one) => one.textContent);
  found.canvases = views.map((one) => one.querySelector("canvas").width > 100);
  q("#outlines").click();
  const with_ = warm(colour());
  q("#side").value = "none"; q("#side").dispatchEvent(new Event("input"));
  found.overlay = [with_ > 50, warm(colour())];
  const grey = colour()[0];
  q("#window").value = "lung"; q("#window").dispatchEvent(new Event("input"));
  found.window = colour()[0] !== grey;
  canvas.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowUp", bubbles: true, cancelable: true }));
  found.key = told()[0];
  canvas.dispatchEvent(new WheelEvent("wheel", { deltaY: 120, cancelable: true }));
  found.wheel = told()[0];
  canvas.dispatchEvent(new KeyboardEvent("keydown", { key: "Home", cancelable: true }));
  found.home = told()[0];
  q("#strongest").click();
  found.back = told();
  let green = 0;
  const marked = colour();
  for (let i = 0; i < marked.length; i += 4) green += marked[i + 1] > 220 && marked[i] < 150 && marked[i + 2] < 120;
  found.mark = green > 20;
  found.share = first();
  document.querySelectorAll("#head button")[0].click();
  found.byName = [first(), q("#head th").getAttribute("aria-sort")];
  q("#structure").value = "1"; q("#structure").dispatchEvent(new Event("change"));
  found.other = q("#table-title").textContent;
  const named = (one) => one.getAttribute("aria-label") || one.closest("label") || one.textContent;
  found.unnamed = [...document.querySelectorAll("input, select, button, canvas")].filter((one) => !named(one)).length;
  found.title = document.title;
  found.scripts = document.scripts.length;
  found.loaded = performance.getEntriesByType("resource").length;
  document.body.textContent = JSON.stringify(found);
})();
"""


def in_browser(path, folder):
    """Return the page's elements after its scripts have run."""
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}",
               "--window-size=1200,900", "--virtual-time-budget=8000", "--dump-dom", path.as_uri()]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=300, check=True).stdout


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed: apt-get install chromium")
def test_in_a_browser_everything_scrolls_colours_and_sorts(page, tmp_path):
    tried = tmp_path / "tried.html"
    text = page.read_text(encoding="utf-8")
    # The page's own policy lets no other script run, so the reader's needs its hash there.
    digest = base64.b64encode(hashlib.sha256(READER.encode()).digest()).decode()
    text = text.replace("script-src '", f"script-src 'sha256-{digest}' '", 1)
    tried.write_text(text.replace("</body>", f"<script>{READER}</script></body>"), encoding="utf-8")
    dumped = in_browser(tried, tmp_path)
    found = json.loads(html.unescape(re.search(r"<body[^>]*>(.*?)</body>", dumped, re.DOTALL)[1]))
    # The strongest voxel, seen from the patient's right, front and foot.
    i, j, k = SHAPE[0] - 1 - BRIGHT[0], SHAPE[1] - 1 - BRIGHT[1], BRIGHT[2]
    start = [f"slice {k + 1} of 20", f"slice {j + 1} of 24", f"slice {i + 1} of 28"]
    assert found["start"] == found["back"] == start
    assert (found["key"], found["wheel"], found["home"]) == (
        f"slice {k + 2} of 20",
        f"slice {k - 1} of 20",
        "slice 1 of 20",
    )
    assert found["overlay"] == [True, 0]
    assert found["window"]
    assert found["mark"], "in a colour that neither for nor against has"
    assert found["canvases"] == [True] * 3
    assert EVIL.replace("_", " ") in found["names"]
    assert (found["title"], found["scripts"], found["loaded"]) == (
        "What the model looked at: explanation-ct.nii.gz",
        3,
        0,
    )
    assert found["share"] == "lung lower lobe left"
    assert found["byName"] == [sorted(found["names"], key=str.lower)[0], "ascending"]
    assert found["other"] == "What the model relied on for: lung lower lobe left"
    assert (found["unnamed"], found["wrong"]) == (0, "")


def test_the_widget_holds_the_scan_and_the_attribution(case, monkeypatch, tmp_path):
    loaded = []
    if "ipyniivue" not in sys.modules:
        try:
            import ipyniivue  # noqa: F401
        except ImportError:
            # Its own part is to draw; what it is given is ours.
            double = ModuleType("ipyniivue")
            double.NiiVue = type(
                "NiiVue", (), {"load_volumes": lambda self, volumes: setattr(self, "volumes", volumes)}
            )
            monkeypatch.setitem(sys.modules, "ipyniivue", double)
    for one in view(case, "heart").volumes:
        get = one.get if isinstance(one, dict) else lambda key, one=one: getattr(one, key)
        (tmp_path / "seen.nii.gz").write_bytes(get("data"))
        loaded.append((read_volume(tmp_path / "seen.nii.gz"), get("colormap"), get("cal_max")))
    (scan, grey, _), (overlay, warm, top) = loaded
    np.testing.assert_array_equal(scan.voxels, case.model_image().voxels)
    np.testing.assert_array_equal(overlay.voxels, bright_attribution())
    assert overlay.grid.same_as(case.attribution("heart").grid)
    assert (grey, warm) == ("gray", "warm")
    assert top == pytest.approx(np.quantile(bright_attribution(), 0.999), rel=0.01)


def test_without_ipyniivue_one_sentence_says_so(case, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipyniivue", None)
    with pytest.raises(InputError, match=r"needs ipyniivue.*pip install 'agg2exp\[notebook\]'"):
        view(case)
