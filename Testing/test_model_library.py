"""The user's models: adding, listing, removing, and fetching them from a server that misbehaves (on loopback)."""

import hashlib
import io
import json
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from monai.networks.nets import UNet

from Agg2ExpLib.cli import main
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.models import ModelCard, known_models, load_model, write_model_folder
from Agg2ExpLib.models.download import RemoteFile, fetch_model, remote_files
from Agg2ExpLib.models.library import Library
from Agg2ExpLib.models.listing import add_model, card_of, list_models
from Testing.monai_bundles import configuration, write_bundle
from Testing.small_networks import tiny_swin_unetr

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def user(tmp_path, monkeypatch):
    """Keep the user's own list of models, and TotalSegmentator's weights, out of the way."""
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA", "HOME", "USERPROFILE", "TOTALSEG_HOME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "user"))
    return tmp_path / "user"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Write a bundle of another author, as a folder and as the bytes of a zip."""
    folder = write_bundle(tmp_path_factory.mktemp("zoo") / "heart_ct", configuration())
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, f"heart_ct/{path.relative_to(folder).as_posix()}")
    return folder, packed.getvalue()


class Server(ThreadingHTTPServer):
    """Serves ``files``; of a path in ``cuts`` the connection ends after so many bytes, that often."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.cuts, self.asked, self.deaf = {}, {}, [], False
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        content = self.server.files.get(self.path)
        begin = int(self.headers.get("Range", "bytes=0-")[6:-1])
        self.server.asked.append((self.path, begin))
        if content is None:
            self.send_error(404)
            return
        if begin and begin >= len(content):
            self.send_error(416)
            return
        begin = 0 if self.server.deaf else begin
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        cuts = self.server.cuts.get(self.path, [])
        self.wfile.write(content[begin : begin + cuts.pop(0)] if cuts else content[begin:])


@pytest.fixture
def server():
    made = Server()
    yield made
    made.shutdown()
    made.server_close()


def zoo_of(server, content, checksum=None):
    """Serve the list of a model zoo that holds two versions of ``heart_ct``."""
    checksum = checksum or hashlib.sha1(content).hexdigest()
    entries = {
        f"heart_ct_v0.{version}.0": {"checksum": checksum, "source": f"{server.url}/heart_ct_v0.{version}.0.zip"}
        for version in (9, 10)
    }
    server.files = {"/zoo.json": json.dumps(entries).encode(), "/heart_ct_v0.10.0.zip": content}
    return f"{server.url}/zoo.json"


def test_a_model_of_the_zoo_is_fetched_checked_and_used_by_name(server, bundle, monkeypatch, user):
    monkeypatch.setattr(
        "Agg2ExpLib.models.listing.remote_files", lambda s, h: remote_files(s, h, zoo=zoo_of(server, bundle[1]))
    )
    entry = add_model("heart_ct")
    assert entry.source == "heart_ct"
    assert entry.path.endswith("heart_ct_v0.10.0.zip")
    assert load_model("heart_ct").card.labels == load_model(bundle[0]).card.labels
    (row,) = [one for one in list_models() if one["kind"] == "added"]
    assert (row["name"], row["size"], row["sha256"]) == (
        "heart_ct",
        len(bundle[1]),
        hashlib.sha256(bundle[1]).hexdigest(),
    )
    assert row["licence"] == "Apache-2.0"
    assert main(["model", "remove", "heart_ct"]) == 0
    assert not list(user.rglob("*.zip"))


def test_a_download_that_is_cut_off_goes_on_where_it_ended(server, bundle, tmp_path):
    (one,) = remote_files("heart_ct", zoo=zoo_of(server, bundle[1]))
    server.cuts = {"/heart_ct_v0.10.0.zip": [1000, 0]}
    with pytest.raises(InputError, match="the same command goes on"):
        fetch_model([one], tmp_path / "m")
    assert not (tmp_path / "m").exists()
    server.cuts = {"/heart_ct_v0.10.0.zip": [500]}
    found = fetch_model([one], tmp_path / "m")
    assert found.read_bytes() == bundle[1]
    assert [begin for path, begin in server.asked if path.endswith("zip")] == [0, 1000, 1000, 1500]


def test_a_server_that_knows_no_ranges_sends_the_whole_again(server, bundle, tmp_path):
    server.files, server.deaf, server.cuts = {"/a.zip": bundle[1]}, True, {"/a.zip": [700, 200]}
    one = RemoteFile(f"{server.url}/a.zip", "a.zip", f"sha256:{hashlib.sha256(bundle[1]).hexdigest()}")
    with pytest.raises(InputError, match="goes on from there"):
        fetch_model([one], tmp_path / "m")
    assert fetch_model([one], tmp_path / "m").read_bytes() == bundle[1]


def test_a_wrong_checksum_throws_the_file_away(server, bundle, tmp_path):
    (one,) = remote_files("heart_ct", zoo=zoo_of(server, bundle[1], "0" * 40))
    with pytest.raises(InputError, match="not what was promised"):
        fetch_model([one], tmp_path / "m")
    assert not (tmp_path / "m").exists()
    assert not list(tmp_path.rglob("*.zip"))


def test_a_repository_of_hugging_face_is_fetched_file_by_file(server, bundle, tmp_path):
    folder, tree = bundle[0], []
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        name, content = path.relative_to(folder).as_posix(), path.read_bytes()
        entry = {"type": "file", "path": name, "size": len(content)}
        entry["oid"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        if path.suffix == ".pt":
            entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest()}
        tree.append(entry)
        server.files[f"/who/heart/resolve/main/{name}"] = content
    tree.append({"type": "file", "path": "picture.png", "size": 5, "oid": "0"})
    server.files["/api/models/who/heart/tree/main?recursive=true"] = json.dumps(tree).encode()
    files = remote_files("hf:who/heart", hub=server.url)
    found = fetch_model(files, tmp_path / "m")
    assert load_model(found).card.labels == load_model(folder).card.labels
    assert not any(path.endswith("png") for path, _ in server.asked)


def test_names_and_paths_that_cannot_be_are_refused(server, bundle, tmp_path):
    zoo = zoo_of(server, bundle[1])
    with pytest.raises(InputError, match="did you mean heart_ct"):
        remote_files("hart_ct", zoo=zoo)
    with pytest.raises(InputError, match="cannot be read"):
        remote_files("heart_ct", zoo=f"{server.url}/nothing")
    with pytest.raises(InputError, match="hf:OWNER/NAME"):
        remote_files("hf:../x/y")
    with pytest.raises(InputError, match="outside of the model"):
        fetch_model([RemoteFile(f"{server.url}/a", "../a")], tmp_path / "m")
    with pytest.raises(InputError, match="cannot be fetched"):
        fetch_model([RemoteFile(f"{server.url}/none.zip", "none.zip")], tmp_path / "m")


def test_an_added_checkpoint_remembers_what_was_said_of_it(tmp_path, capsys):
    arguments = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]}
    card = ModelCard(
        name="small", labels=["bg", "it"], window=(16, 16, 16), architecture={"name": "UNet", "arguments": arguments}
    )
    folder = write_model_folder(tmp_path / "small", UNet(**arguments).state_dict(), card)
    assert main(["model", "add", str(folder), "--name", "mine", "--overlap", "0.5"]) == 0
    assert load_model("mine").card.overlap == 0.5
    assert load_model("mine", overlap=0.1).card.overlap == 0.1
    assert known_models()["mine"] == folder.resolve()
    assert (card_of("mine").labels, card_of("mine").window) == (("bg", "it"), (16, 16, 16))
    capsys.readouterr()
    assert main(["model", "inspect", "mine"]) == 0
    assert "structures: 1 (it)" in capsys.readouterr().out
    assert main(["model", "list"]) == 0
    told = capsys.readouterr().out
    assert "mine: " in told and "missing: weights of Dataset 291, 292" in told
    assert main(["model", "remove", "mine"]) == 0
    assert folder.is_dir() and "its files stay" in capsys.readouterr().out
    assert main(["model", "remove", "mine"]) == 2


def test_a_bare_checkpoint_is_added_with_what_it_cannot_tell_and_not_without(tmp_path, capsys):
    path = tmp_path / "swin.pt"
    torch.save(tiny_swin_unetr().state_dict(), path)
    assert main(["model", "add", str(path)]) == 2
    told = capsys.readouterr().err
    assert all(option in told for option in ("--labels A,B", "--spacing X,Y,Z", "--window X,Y,Z", "--intensity-range"))
    assert Library().models() == {}
    said = ["--labels", "background,heart,aorta", "--spacing", "2,2,3", "--patch", "64,32,32"]
    assert main(["model", "add", str(path), *said, "--intensity-range=-500,500", "--progress", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"name": "swin", "path": str(path)}
    card = card_of("swin")
    assert (card.labels, card.spacing, card.window) == (("background", "heart", "aorta"), (2, 2, 3), (64, 32, 32))
    assert load_model("swin").card.intensity_range == (-500, 500)


def test_what_cannot_be_used_is_not_added(tmp_path, capsys):
    (tmp_path / "a.pt").write_bytes(b"no model")
    assert main(["model", "add", str(tmp_path / "a.pt")]) == 2
    assert "is neither a safetensors file nor" in capsys.readouterr().err
    assert Library().models() == {}
    with pytest.raises(InputError, match="bundled model is called"):
        add_model(str(tmp_path / "a.pt"), "thorax-phantom")
    with pytest.raises(InputError, match="has the sha256"):
        add_model(str(tmp_path / "a.pt"), "a", sha256="0" * 64)


def test_a_damaged_list_is_said(user):
    Library().folder.mkdir(parents=True)
    (Library().folder / "models.json").write_text('{"models": 3}')
    with pytest.raises(InputError, match="is damaged; remove it"):
        Library().models()
