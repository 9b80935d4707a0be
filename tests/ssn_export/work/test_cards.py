"""The list of cards, in units of one."""

from ssn_export.work import cards


def test_cards_are_in_units():
    listed = cards.read()
    assert listed["RTX-A2000"] == cards.Card(288e9, 32e12, 8e12, 3 * 1024 * 1024)
    assert listed["Orin-Nano-8GB"].l2 is None
    for name, card in listed.items():
        assert 5e10 < card.bandwidth < 1e13, name
        assert 3 * card.float32 < card.half < 20 * card.float32, name
        assert card.l2 is None or 2 <= card.l2 >> 20 <= 128, name
