"""What a run's hosts are given: by plan, in the calendar that the run will have."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from nodes.wire import tls
from testbed.experiment import ExperimentError
from testbed.identities import FOLDER, run_name, save_certificates
from testbed.plan import GeneratePlan
from tests.unit.test_compile import compiled

URI, IP = x509.UniformResourceIdentifier, x509.IPAddress


def certificate(folder, name):
    return x509.load_pem_x509_certificate((folder / FOLDER / f"{name}.pem").read_bytes())


def names(folder, name, kind=URI):
    found = certificate(folder, name).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return [str(one) for one in found.value.get_values_for_type(kind)]


def test_nothing_is_made_when_nothing_is_encrypted(tmp_path):
    save_certificates(compiled("small"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_virtual_run_has_certificates_of_its_own_calendar(tmp_path):
    plan = compiled("small", sets=["encrypt=all"])
    save_certificates(plan, tmp_path)
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    for host in plan.hosts:
        held = certificate(tmp_path, host.name)
        assert held.not_valid_before_utc == begin - timedelta(hours=1)
        assert held.not_valid_after_utc == begin + timedelta(microseconds=plan.duration_us, hours=1)
        assert names(tmp_path, host.name, IP) == [host.ip]


def test_a_real_run_has_certificates_of_today(tmp_path):
    plan = compiled("small", "real", sets=["encrypt=sensitive"])
    save_certificates(plan, tmp_path)
    assert tls.load(tmp_path / FOLDER, run_name(plan), "ue1").fault() == ""


def test_a_phone_is_an_agent_only_where_weights_travel(tmp_path):
    for weights, roles in (("prestaged", ["phone"]), ("transfer", ["phone", "agent"])):
        plan = compiled("small", sets=["encrypt=all", f"weights={weights}"])
        folder = tmp_path / weights
        folder.mkdir()
        save_certificates(plan, folder)
        assert names(folder, "ue1") == [tls.uri(run_name(plan), role, "ue1") for role in roles]
        assert names(folder, "edge1") == [tls.uri(run_name(plan), "agent", "edge1")]


def test_a_phone_that_generates_is_an_agent_too_for_keys_and_values_travel(tmp_path):
    plan = compiled("small", sets=["encrypt=all"])
    talking = tuple(replace(stream, generate=GeneratePlan(8, 10**7)) for stream in plan.streams)
    save_certificates(replace(plan, streams=talking), tmp_path)
    assert names(tmp_path, "ue1") == [tls.uri(run_name(plan), role, "ue1") for role in ("phone", "agent")]


@pytest.mark.parametrize("wrong", ["encrypt=some", "wire=int4"])
def test_words_that_are_none_are_refused(wrong):
    with pytest.raises(ExperimentError, match=wrong.split("=")[0]):
        compiled("small", sets=[wrong])
    assert compiled("small", sets=["wire=auto"]).wire == "auto"


def held(folder):
    return {path.name: path.read_bytes() for path in (folder / FOLDER).iterdir()}


def issued(folder, **changes):
    folder.mkdir()
    save_certificates(replace(compiled("small", sets=["encrypt=all"]), **changes), folder)
    return held(folder)


def test_in_virtual_time_keys_follow_from_the_seed_and_everybody_has_another(tmp_path):
    first, again, other = (issued(tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert first == again
    assert not set(first.values()) & set(other.values())
    assert len(set(first.values())) == len(first)


def test_on_the_real_clock_keys_come_by_chance(tmp_path):
    first, again = (issued(tmp_path / name, clock="real") for name in "ab")
    assert first.keys() == again.keys()
    assert not set(first.values()) & set(again.values())
