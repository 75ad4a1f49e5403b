"""What is served of pipelines, and the checks of requests, without a web framework and without networks."""

import shutil

import numpy as np
import pytest
import soundfile

from jaxvoice.errors import AudioError, CheckpointError, ConfigError, JaxvoiceWarning, TextError
from jaxvoice.models.hifigan import FAMILY
from jaxvoice.pipelines import HiFiGANVocoder, Rave, Synthesizer, VITSSynthesizer, VoiceConverter
from jaxvoice.pipelines.served_inputs import Limits, check_recordings, pcm16, public_message, read_upload
from jaxvoice.pipelines.served_models import ServedModel, load_models
from jaxvoice.pipelines.speech_service import SpeechService, Upload
from jaxvoice.pipelines.xtts_synthesizer import XTTSSynthesizer
from tests.pipelines.conftest import loud_generator, small_config
from tests.pipelines.served_pipelines import RATE, Autoencoder, Cloner, LatentVocoder, Speaker, Table, Vocoder, tone

MODELS = {
    "speaker": Speaker(),
    "cloner": Cloner(),
    "table": Table(),
    "vocoder": Vocoder(),
    "autoencoder": Autoencoder(),
}


@pytest.fixture(scope="module")
def service():
    found = SpeechService([ServedModel(*item) for item in MODELS.items()], Limits(40, 0.1, 1.0, 2.0, 3))
    yield found
    found.close()


@pytest.fixture(scope="module")
def uploads(tmp_path_factory):
    """Recordings by name, with their durations."""
    folder = tmp_path_factory.mktemp("uploads")
    found = {}
    for name, seconds, channels in (("short", 0.3, 1), ("long", 2.5, 1), ("stereo", 0.5, 2), ("nine", 0.1, 9)):
        samples = np.stack([tone(seconds, 0.1 + 0.05 * channel) for channel in range(channels)], axis=1)
        soundfile.write(folder / name, samples, RATE, format="WAV")
        found[name] = Upload(folder / name, f"{name}.wav")
    (folder / "text").write_text("no audio")
    return found | {"text": Upload(folder / "text", "notes.txt")}


def computed(service, task, given, **uploads):
    """The samples that a request computes, in 16-bit integers."""
    computation = service.plan(task, given, uploads)
    found = np.frombuffer(b"".join(computation.work()), np.int16)
    return found.reshape(-1, computation.channels) if computation.channels > 1 else found


def test_tasks_follow_from_methods():
    tasks = {name: ServedModel(name, pipeline).tasks for name, pipeline in MODELS.items()}
    assert tasks == {
        "speaker": ("speak",),
        "cloner": ("speak", "clone", "convert"),
        "table": ("speak", "convert"),
        "vocoder": ("vocode",),
        "autoencoder": ("vocode",),
    }
    with pytest.raises(ConfigError, match="other is a LatentVocoder, which cannot be served"):
        ServedModel("other", LatentVocoder())
    described = ServedModel("cloner", MODELS["cloner"]).describe()
    assert described["tasks"]["clone"] == {"options": ["language", "temperature"]}
    assert described["tasks"]["convert"] == {"options": ["seed"]}
    assert (described["languages"], described["speakers"]) == (["en", "pt"], ["anna", "ben"])
    assert ServedModel("v", MODELS["vocoder"]).options("vocode") == ("sigma",)


def test_pipelines_of_the_library_have_the_methods():
    """Their names and arguments are those by which tasks are found."""
    import inspect

    def arguments(method):
        return set(inspect.signature(method).parameters)

    for pipeline in (VITSSynthesizer, XTTSSynthesizer):
        assert {"language", "speaker", "reference", "seed", "stream"} <= arguments(pipeline.speak)
        assert isinstance(pipeline.speakers, property) and isinstance(pipeline.languages, property)
    assert {"temperature", "top_k", "top_p", "repetition_penalty"} <= arguments(XTTSSynthesizer.speak)
    assert {"speed", "seed"} <= arguments(Synthesizer.speak) and not hasattr(Synthesizer, "encode_voice")
    assert {"speaker", "pitch"} <= arguments(VITSSynthesizer.convert_chunks)
    assert "pitch" in arguments(VoiceConverter.convert_chunks) and hasattr(VoiceConverter, "encode_voice")
    assert hasattr(HiFiGANVocoder, "resynthesize") and "seed" in arguments(Rave.transfer_parts)
    assert isinstance(VITSSynthesizer.reads_references, property)


def test_audio_is_that_of_the_pipeline(service, uploads):
    short, stereo = uploads["short"], uploads["stereo"]
    assert np.array_equal(
        computed(service, "speak", {"model": "speaker", "text": "Hello", "speed": "2", "seed": 3}),
        np.frombuffer(pcm16(tone(0.25)), np.int16),
    )
    assert MODELS["speaker"].calls[-1] == ("Hello", 2.0, 3)
    audio = computed(service, "speak", {"model": "cloner", "text": "Hi", "speaker": "ben", "language": "pt"})
    assert len(audio) == 0.75 * RATE and MODELS["cloner"].calls[-1] == ("Hi", "pt", "ben", 0.7)
    computed(service, "clone", {"text": "Hi", "temperature": 0.5}, reference=[short, stereo])
    assert MODELS["cloner"].calls[-2:] == [("Hi", None, None, 0.5), [("short.wav", 0.3), ("stereo.wav", 0.5)]]
    audio = computed(service, "convert", {"model": "cloner", "voice": "anna"}, source=[stereo])
    assert len(audio) == 0.5 * RATE and MODELS["cloner"].calls[-1] == ("stereo.wav", "anna", None, 0)
    computed(service, "convert", {"model": "cloner", "seed": 4}, source=[stereo], reference=[short])
    assert MODELS["cloner"].calls[-1] == ("stereo.wav", ["short.wav"], None, 4)
    computed(service, "convert", {"model": "table", "voice": "anna", "speaker": "ben"}, source=[short])
    assert MODELS["table"].calls[-1] == ("short.wav", "anna", "ben", 0)


def test_vocoders_and_autoencoders_take_recordings(service, uploads):
    given = soundfile.read(uploads["stereo"].path, dtype="int16")[0]
    assert np.array_equal(computed(service, "vocode", {"model": "autoencoder"}, source=[uploads["stereo"]]), given)
    half = computed(service, "vocode", {"model": "vocoder", "sigma": 0.5}, source=[uploads["short"]])
    assert np.abs(half - soundfile.read(uploads["short"].path, dtype="int16")[0] / 2).max() <= 0.5


@pytest.mark.parametrize(
    ("task", "given", "error", "message"),
    [
        ("speak", {"model": "speaker"}, TextError, "There is no text; send it in the field 'text'"),
        ("speak", {"model": "speaker", "text": 3}, TextError, "text is 3; it should be the text"),
        (
            "speak",
            {"model": "speaker", "text": "x" * 41},
            TextError,
            "text has 41 characters; it should have at most 40",
        ),
        ("speak", {"text": "x"}, ConfigError, "model is missing; .*: 'speaker', 'cloner', 'table'."),
        ("speak", {"model": "speakr", "text": "x"}, ConfigError, "model is 'speakr'; the nearest known name"),
        ("speak", {"model": 3, "text": "x"}, ConfigError, "model is 3; it should be a name"),
        ("speak", {"model": "vocoder", "text": "x"}, ConfigError, "has no task 'speak'; its tasks are vocode"),
        ("speak", {"model": "speaker", "txt": "x"}, ConfigError, "the field 'txt'; the nearest known name is 'text'"),
        ("speak", {"model": "speaker", "text": "x", "pitch": 3}, ConfigError, "no option 'pitch' of speak; .*'speed'"),
        ("speak", {"model": "speaker", "text": "x", "seed": "one"}, ConfigError, "seed is 'one'; .* a number"),
        ("speak", {"model": "speaker", "text": "x", "speed": True}, ConfigError, "speed is True; .* a number"),
        ("clone", {"text": "x"}, AudioError, "There is no reference"),
        ("convert", {"model": "cloner", "voice": "anna"}, AudioError, "number of sources is 0; send one recording"),
        (
            "convert",
            {"source": "x"},
            ConfigError,
            "'source' should be a recording; send it as a file in a form",
        ),
    ],
)
def test_requests_are_checked(task, given, error, message, service):
    with pytest.raises(error, match=message):
        service.plan(task, given)


def test_recordings_are_checked(service, uploads):
    def plan(task, given, **found):
        return service.plan(task, given, {name: [uploads[one] for one in value] for name, value in found.items()})

    with pytest.raises(AudioError, match=r"The source has 2.5 s; it should have at most 2 s"):
        plan("vocode", {"model": "vocoder"}, source=["long"])
    with pytest.raises(AudioError, match=r"The reference has 1.1 s; it should have at most 1 s"):
        plan("clone", {"text": "x"}, reference=["short", "short", "stereo"])
    with pytest.raises(AudioError, match=r"nine.wav has 9 channels at 8000 Hz"):
        plan("vocode", {"model": "vocoder"}, source=["nine"])
    with pytest.raises(AudioError, match=r"^notes.txt is not audio of a supported format"):
        plan("vocode", {"model": "vocoder"}, source=["text"])
    with pytest.raises(ConfigError, match="'reference'; these tasks take it: 'clone', 'convert'"):
        plan("vocode", {"model": "vocoder"}, source=["short"], reference=["short"])
    with pytest.raises(ConfigError, match="'reference'; these tasks take it: 'clone', 'convert'"):
        plan("speak", {"model": "speaker", "text": "x"}, reference=["short"])
    with pytest.raises(ConfigError, match="'text' is a file; it should be a field with a value"):
        plan("clone", {}, text=["short"])
    for given in ({}, {"voice": "anna"}):
        found = {"source": [uploads["short"]], "reference": [uploads["short"]] if given else []}
        with pytest.raises(ConfigError, match="There should be one voice"):
            list(service.plan("convert", {"model": "cloner", **given}, found).work())
    with pytest.raises(ConfigError, match="voice is 'carl'"):
        list(service.plan("convert", {"model": "cloner", "voice": "carl"}, {"source": [uploads["short"]]}).work())
    with pytest.raises(ConfigError, match="the model speaker has one voice"):
        list(service.plan("speak", {"model": "speaker", "text": "x", "speaker": "anna"}).work())


def test_the_samples_of_all_channels_are_bounded(tmp_path):
    """Before they are decoded, so that a small file of silence cannot fill the memory."""
    soundfile.write(tmp_path / "a.flac", np.zeros((100, 2), np.float32), 192_000)
    with pytest.raises(AudioError, match=r"^b.flac has 384000 samples a second in 2 channels; .* at most 200000"):
        check_recordings([(tmp_path / "a.flac", "b.flac")], 1.0, "source")
    soundfile.write(tmp_path / "a.flac", np.zeros((100, 2), np.float32), 96_000)
    check_recordings([(tmp_path / "a.flac", "b.flac")], 1.0, "source")


def test_errors_have_the_names_of_uploads_and_no_folders(tmp_path):
    soundfile.write(tmp_path / "upload0", np.zeros(100, np.float32), RATE, format="WAV")
    with pytest.raises(AudioError) as failure:
        read_upload(tmp_path / "upload0", "me.wav")
    assert "me.wav" in str(failure.value) and str(tmp_path) not in str(failure.value)
    for message, public in (
        ("/srv/models/a b is damaged", "a b is damaged"),
        ("The file '/srv/models/vits/config.json' is damaged", "The file 'config.json' is damaged"),
        (r"C:\\models\\vits\\config.json: damaged".replace("\\\\", "\\"), "config.json: damaged"),
        (
            "speed is 3/4; words and/or signs, 1 / 2, https://a.org/b",
            "speed is 3/4; words and/or signs, 1 / 2, https://a.org/b",
        ),
    ):
        assert public_message(CheckpointError(message)) == public


def test_samples_are_rounded_and_clipped():
    block = np.array([0.0, 1.0, -1.0, 2.0, 1 / 32768], np.float32)
    assert np.frombuffer(pcm16(block), "<i2").tolist() == [0, 32767, -32768, 32767, 1]
    assert np.frombuffer(pcm16(np.stack([block, -block])), "<i2")[:4].tolist() == [0, 0, 32767, -32768]


def test_audio_with_nan_is_an_error_and_long_audio_is_divided(uploads):
    class Broken(Speaker):
        def speak(self, text, *, seed=0):
            return np.array([0.0, np.nan], np.float32)

    with pytest.raises(AudioError, match="The audio of the model broken contains NaN or infinity"):
        list(ServedModel("broken", Broken()).speak("x"))
    blocks = list(ServedModel("speaker", Speaker()).speak("x" * 25))
    assert [len(block) for block in blocks] == [RATE, RATE, RATE // 2]


def test_warnings_about_uploads_contain_their_names(tmp_path):
    path = tmp_path / "upload1"
    loud = 5 * np.hanning(RATE) * np.sin(0.1 * np.arange(RATE))
    soundfile.write(path, np.clip(loud, -0.8, 0.8), RATE, format="WAV", subtype="FLOAT")
    with pytest.warns(JaxvoiceWarning, match=r"^me\.wav\b"):
        assert read_upload(path, "me.wav").name == "me.wav"


def test_results_are_kept_up_to_a_number(monkeypatch):
    monkeypatch.setattr("jaxvoice.pipelines.speech_service._KEPT_RESULTS", 2)
    service = SpeechService([ServedModel("speaker", Speaker())])
    computation = service.plan("speak", {"text": "x"})
    jobs = [service.queue.reserve() for _ in range(5)]
    for job in jobs[:4]:
        service.keep(job, computation)
    # Results that are still computed are never removed; of those that have ended, the last ones remain.
    assert all(service.result(job.identifier) == (job, computation) for job in jobs[:4])
    service.keep(jobs[4], computation)
    for job in jobs[:3]:
        job.cancel()
    assert [service.result(job.identifier) is not None for job in jobs] == [False, True, True, True, True]
    # A bound on bytes removes the oldest of those that have ended.
    monkeypatch.setattr("jaxvoice.pipelines.speech_service._KEPT_RESULTS", 5)
    monkeypatch.setattr("jaxvoice.pipelines.speech_service._KEPT_BYTES", 90)
    jobs[1].blocks, jobs[2].blocks, jobs[3].blocks = [b"x" * 8, b"x" * 8], [b"x"], [b"x" * 80]
    jobs[3].cancel()
    assert [service.result(job.identifier) is not None for job in jobs] == [False, False, True, True, True]
    service.close()
    with pytest.raises(ConfigError, match="no equal ones"):
        SpeechService([ServedModel("one", Speaker()), ServedModel("one", Speaker())])


def test_limits_are_checked():
    assert Limits(upload_megabytes=1.5).upload_bytes == 1_500_000
    for name, value in (("waiting", 0), ("text_characters", 1.5), ("source_seconds", float("inf")), ("waiting", True)):
        with pytest.raises(ConfigError, match=f"Limits.{name} is "):
            Limits(**{name: value})


def test_models_are_loaded_under_the_names_of_their_folders(tmp_path):
    config = small_config()
    sources = [tmp_path / "a" / "vocoder", tmp_path / "b" / "vocoder", tmp_path / "run" / "model"]
    FAMILY.save_network(sources[0], loud_generator(config), config)
    for source in sources[1:]:
        shutil.copytree(sources[0], source)
    models = load_models(sources, {"window": 100})
    assert [model.name for model in models] == ["vocoder", "vocoder-2", "run"]
    assert models[0].pipeline.window == 100 and models[0].tasks == ("vocode",)
    with pytest.raises(ConfigError, match="None of the models has the option 'vocoder'"):
        load_models(sources[:1], {"vocoder": "x"})
    with pytest.raises(CheckpointError, match="There is no folder"):
        load_models([tmp_path / "missing"])
