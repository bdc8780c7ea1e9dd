from __future__ import annotations

import tomllib
from collections.abc import Callable
from typing import Any

import pytest

from dsfn.billing.rates import (
    EXAMPLE_CPU,
    EXAMPLE_GPU,
    Rate,
    RateCard,
    card_document,
    configured_card,
    read_card,
)
from dsfn.billing.usage import STATUSES, Usage
from dsfn.functions.errors import UsageError

MakeUsage = Callable[..., Usage]

CONFIGURATION = """
[billing]
currency = "EUR"
exponent = 2
billed = ["succeeded", "failed"]

[billing.default]
pico_per_second = 2_000_000_000

[billing.devices.cpu]
pico_per_second = 20_000_000
basis = "busy"
pico_per_request = 200_000

[billing.devices."NVIDIA H100 80GB HBM3"]
pico_per_second = 1_097_000_000
basis = "held+restore"
"""


def test_a_card_is_read_from_the_configuration() -> None:
    card = configured_card(tomllib.loads(CONFIGURATION)["billing"])
    assert card == RateCard(
        currency="EUR",
        exponent=2,
        devices={
            "cpu": Rate(20_000_000, "busy", 200_000),
            "NVIDIA H100 80GB HBM3": Rate(1_097_000_000, "held+restore"),
        },
        default=Rate(2_000_000_000),
        billed=frozenset({"succeeded", "failed"}),
    )
    assert card.rate("NVIDIA L4") == Rate(2_000_000_000)


def test_without_configuration_the_example_card_is_in_force() -> None:
    assert configured_card({}) == RateCard()
    assert RateCard().rate("cpu") == EXAMPLE_CPU
    assert RateCard().rate("NVIDIA B200") == EXAMPLE_GPU


def test_by_the_example_card_an_hour_of_a_gpu_costs_3_60_and_of_a_cpu_0_04() -> None:
    hour_us = 3_600 * 10**6
    assert EXAMPLE_GPU.cost_nano(0, hour_us, 0) == 3_600_000_000
    assert EXAMPLE_CPU.cost_nano(0, hour_us, 0) == 41_400_000


def test_a_rate_for_a_gpu_leaves_the_cpu_its_example_rate() -> None:
    card = configured_card({"devices": {"NVIDIA L4": {"pico_per_second": 1}}})
    assert card.rate("cpu") == EXAMPLE_CPU


def test_a_card_with_a_default_of_its_own_has_no_example_price_for_the_cpu() -> None:
    card = read_card({"default": {"pico_per_second": 7}})
    assert card.rate("cpu") == card.rate("NVIDIA L4") == Rate(7)
    assert read_card(card_document(card)).rate("cpu") == Rate(7)
    both = configured_card(
        {"default": {"pico_per_second": 7}, "devices": {"cpu": {"pico_per_second": 2}}}
    )
    assert both.rate("cpu") == Rate(2)


@pytest.mark.parametrize(
    ("document", "key"),
    [
        ({"curency": "USD"}, "billing.curency"),
        ({"currency": "usd"}, "billing.currency"),
        ({"currency": 1}, "billing.currency"),
        ({"exponent": 2.0}, "billing.exponent"),
        ({"exponent": 10}, "billing.exponent"),
        ({"exponent": True}, "billing.exponent"),
        ({"billed": ["platform"]}, "billing.billed"),
        ({"billed": ["rejected"]}, "billing.billed"),
        ({"billed": "failed"}, "billing.billed"),
        ({"devices": []}, "billing.devices"),
        ({"devices": {"cpu": 5}}, "billing.devices.cpu"),
        ({"devices": {"cpu": {}}}, "billing.devices.cpu.pico_per_second"),
        ({"devices": {"cpu": {"pico_per_second": 0.5}}}, "billing.devices.cpu.pico_per_second"),
        ({"default": {"pico_per_second": -1}}, "billing.default.pico_per_second"),
        ({"default": {"pico_per_second": 1, "basis": "idle"}}, "billing.default.basis"),
        ({"default": {"pico_per_second": 1, "basis": []}}, "billing.default.basis"),
        ({"default": {"pico_per_second": 1, "per_call": 1}}, "billing.default.per_call"),
        ({"default": {"pico_per_second": 1, "increment_us": 0}}, "billing.default.increment_us"),
        ({"default": {"pico_per_second": 1, "free_us": -1}}, "billing.default.free_us"),
        ({"default": {"pico_per_second": 1, "tiering": "steps"}}, "billing.default.tiering"),
        ({"default": {"pico_per_second": 1, "tiers": {}}}, "billing.default.tiers"),
        ({"default": {"pico_per_second": 1, "tiers": [5]}}, "billing.default.tiers[0]"),
        (
            {"default": {"pico_per_second": 1, "tiers": [{"from_us": 0, "pico_per_second": 1}]}},
            "billing.default.tiers[0].from_us",
        ),
        ({"discounts": {"acme": 10_001}}, "billing.discounts.acme"),
        ({"taxes": []}, "billing.taxes"),
        ({"tax": -1}, "billing.tax"),
        ({"tax_name": ""}, "billing.tax_name"),
        ({"minimum_minor": 0.5}, "billing.minimum_minor"),
        ({"effective_from": "2026-11-01T00:00:00Z"}, "billing.effective_from"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(document: dict[str, Any], key: str) -> None:
    with pytest.raises(UsageError) as refused:
        configured_card(document)
    assert refused.value.message.startswith(f"{key} ")


@pytest.mark.parametrize(("basis", "cost_nano"), [("busy", 3), ("held", 4), ("held+restore", 7)])
def test_the_basis_says_which_time_is_billed(
    make_usage: MakeUsage, basis: Any, cost_nano: int
) -> None:
    card = RateCard(default=Rate(1_000, basis))
    usage = make_usage(
        device_class="gpu", busy_us=3_000_000, held_us=4_000_000, restore_us=3_500_000
    )
    assert card.cost_nano(usage) == cost_nano


def test_a_cost_is_truncated_to_nano_and_has_the_fee(make_usage: MakeUsage) -> None:
    card = RateCard(devices={"cpu": Rate(1_999, "held", 2_000)})
    assert card.cost_nano(make_usage(held_us=999_999)) == 3
    assert card.cost_nano(make_usage(held_us=1_000_501)) == 4
    assert card.rate("cpu").cost_nano(0, 1_000_501, 0) == 4


def test_the_most_that_a_call_can_cost_is_rounded_up_once() -> None:
    card = RateCard(devices={"cpu": Rate(1_000, increment_us=1_000), "gpu": Rate(1_000, "busy")})
    assert card.most_nano("cpu", held_us=1_000_000, restore_us=5_000) == 1
    assert card.most_nano("cpu", held_us=1_000_001, restore_us=0) == 2
    assert card.most_nano("gpu", held_us=1, restore_us=0) == 1
    assert card.most_nano("gpu", held_us=2_000_000, restore_us=10**9) == 2
    with_fee = RateCard(default=Rate(1_000, pico_per_request=5_000))
    assert with_fee.most_nano("gpu", held_us=1_000_000, restore_us=0) == 1 + 5


def test_a_tenant_without_a_tax_of_its_own_has_that_of_all() -> None:
    card = RateCard(tax=1_900, taxes={"acme": 700})
    assert (card.tax_of("acme"), card.tax_of("bob")) == (700, 1_900)
    assert (RateCard().tax_of("acme"), RateCard().tax_name) == (0, "Tax")


def test_a_time_is_rounded_up_to_a_whole_increment() -> None:
    rate = Rate(1, increment_us=1_000)
    assert [rate.quantity_us(0, held_us, 0) for held_us in (0, 1, 1_000, 1_001)] == [
        0,
        1_000,
        1_000,
        2_000,
    ]


@pytest.mark.parametrize(("basis", "cost_nano"), [("busy", 9), ("held", 12), ("held+restore", 15)])
def test_a_call_on_several_devices_costs_the_time_of_each(
    make_usage: MakeUsage, basis: Any, cost_nano: int
) -> None:
    card = RateCard(devices={"cpu": Rate(1_000, basis)})
    times = {"busy_us": 3_000_000, "held_us": 4_000_000, "restore_us": 1_000_000}
    assert card.cost_nano(make_usage(devices=3, **times)) == cost_nano


def test_the_platforms_faults_and_refused_calls_cost_nothing(make_usage: MakeUsage) -> None:
    assert RateCard().cost_atto(make_usage(status="platform")) == 0
    costs = {
        status: RateCard().cost_nano(make_usage(held_us=10**6, status=status))
        for status in STATUSES
    }
    assert costs == {
        "succeeded": 11_500,
        "failed": 11_500,
        "cancelled": 11_500,
        "rejected": 0,
        "platform": 0,
    }


@pytest.mark.parametrize("basis", ["busy", "held", "held+restore"])
@pytest.mark.parametrize("amount_nano", [1, 999, 1_000_000])
def test_what_is_affordable_costs_no_more_and_a_microsecond_longer_does(
    make_usage: MakeUsage, basis: Any, amount_nano: int
) -> None:
    card = RateCard(devices={"cpu": Rate(20_000_001, basis, 150_000)})
    limit_us = card.rate("cpu").affordable_us(amount_nano, restore_us=1_000)
    assert limit_us is not None
    if amount_nano == 1:
        assert limit_us < 0
        return

    def cost_nano(held_us: int) -> int:
        usage = make_usage(device_class="cpu", busy_us=held_us, held_us=held_us, restore_us=1_000)
        return card.cost_nano(usage)

    assert cost_nano(limit_us) <= amount_nano
    assert cost_nano(limit_us + 51) > amount_nano
    assert card.most_nano("cpu", limit_us + 51, 1_000) > amount_nano


def test_free_time_is_affordable_without_end_if_the_request_is() -> None:
    assert Rate(0).affordable_us(0, 0) is None
    assert Rate(0, pico_per_request=10_000).affordable_us(9, 0) == -1
