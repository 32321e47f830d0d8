"""Tasks take the logits in their order, one slice after the other."""

from mammo_hf.models.configuration_tasks import slices_of


def test_slices_follow_the_order_of_the_tasks_and_meet():
    tasks = [{"name": "density", "labels": ["a", "b", "c"]}, {"name": "cancer", "labels": ["no", "yes"]}]
    assert slices_of(tasks) == {"density": slice(0, 3), "cancer": slice(3, 5)}
    assert list(slices_of(tasks)) == ["density", "cancer"]
    assert slices_of([]) == {}
