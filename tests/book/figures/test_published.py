from __future__ import annotations

from book.figures import published


def test_the_published_table_is_the_papers() -> None:
    shown = published.published_table().set_index("model")
    assert shown.loc["Mixtral-8x7B", ["greedy", "T = 0.1", "T = 0.5", "T = 1"]].tolist() == [
        "30.4%",
        "30.1%",
        "30.4%",
        "30.3%",
    ]
    assert shown.loc["OLMoE-7B", "compliance"] == "0.0%"
    accuracy = published.published_accuracy()
    assert len(accuracy) == 12
    assert (accuracy["accuracy_low"] < accuracy["accuracy"]).all()


def test_the_title_holds_for_every_published_model() -> None:
    assert published.published_title().endswith("no model changes by more than 2.0 points")
    assert {round(abs(one[-1] - one[0]), 3) <= 0.02 for one in published.ACCURACY.values()} == {True}
