"""Seeds: what is drawn at an address depends on the address alone."""

import hashlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tombola.ground import seeds


def test_the_seed_of_an_address_never_changes():
    # Every result hangs on these numbers: another one here is another experiment.
    assert seeds.derive(0, "init") == 6109011495221250200
    assert seeds.derive(7, "order", 3) == 9121353504917614660


def test_the_seed_of_an_address_is_half_the_first_eight_bytes_of_its_sha256():
    digest = hashlib.sha256(b"(0, 'order', 3)").digest()
    assert (
        seeds.derive(0, "order", 3)
        == sum(byte << 8 * place for place, byte in enumerate(digest[:8])) // 2
    )


@given(st.integers(), st.lists(st.one_of(st.integers(), st.text()), max_size=3))
def test_every_seed_is_one_that_torch_takes(seed, address):
    value = seeds.derive(seed, *address)
    assert 0 <= value < 2**63
    assert torch.Generator().manual_seed(value).initial_seed() == value


def test_different_addresses_have_different_seeds():
    addresses = [
        (0,),
        (1,),
        (0, "a"),
        (0, "a", 1),
        (0, "a", "1"),
        (0, "a1"),
        (0, 1, "a"),
        (0, "a", (1,)),
        (1, "a"),
    ]
    assert len({seeds.derive(*address) for address in addresses}) == len(addresses)
    assert len({seeds.derive(0, "order", epoch) for epoch in range(1000)}) == 1000


def test_a_generator_stands_at_the_beginning_of_its_address():
    first, second = seeds.generator(0, "order", 1), seeds.generator(0, "order", 1)
    torch.rand(10, generator=first)
    assert not torch.equal(torch.rand(3, generator=first), torch.rand(3, generator=second))
    assert torch.equal(
        torch.rand(3, generator=seeds.generator(0, "x")),
        torch.rand(3, generator=seeds.generator(0, "x")),
    )


def test_a_generator_leaves_the_global_one_alone():
    before = torch.random.get_rng_state()
    torch.rand(3, generator=seeds.generator(0, "x"))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_seeded_block_draws_from_its_address_and_puts_the_global_generator_back():
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    with seeds.seeded(0, "init"):
        one = torch.rand(3)
    assert torch.equal(torch.rand(2), expected)
    with seeds.seeded(0, "init"):
        assert torch.equal(torch.rand(3), one)
    assert torch.equal(torch.rand(3, generator=seeds.generator(0, "init")), one)


def test_a_seeded_block_puts_the_generator_back_after_an_error():
    def drawing_goes_wrong():
        with seeds.seeded(0, "init"):
            torch.rand(1)
            raise ZeroDivisionError

    before = torch.random.get_rng_state()
    with pytest.raises(ZeroDivisionError):
        drawing_goes_wrong()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_seeded_blocks_nest():
    with seeds.seeded(0, "outer"):
        torch.rand(1)
        expected = torch.rand(1)
    with seeds.seeded(0, "outer"):
        torch.rand(1)
        with seeds.seeded(0, "inner"):
            torch.rand(7)
        assert torch.equal(torch.rand(1), expected)


def test_reseed_draws_what_torchs_own_seed_does():
    with torch.random.fork_rng():
        seeds.reseed(3, "step", 9)
        ours = torch.rand(4)
        torch.manual_seed(seeds.derive(3, "step", 9))
        assert torch.equal(torch.rand(4), ours)


def test_what_is_remembered_of_gpus_is_put_back_there(monkeypatch):
    states, given = [torch.zeros(16, dtype=torch.uint8)], []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: states)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", given.append)
    seeds.remember()()
    assert given == [states]
