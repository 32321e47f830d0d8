from mammo_hf.commands import stages


def test_processes_wait_for_one_another_before_they_leave(monkeypatch):
    done = []

    class State:
        def wait_for_everyone(self):
            done.append("waited")

        def destroy_process_group(self):
            done.append("left")

    monkeypatch.setattr(stages, "PartialState", State)
    stages.end_stage()
    assert done == ["waited", "left"]
