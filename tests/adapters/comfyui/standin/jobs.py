"""What newer servers say of a prompt by ``/api/jobs``: one answer, whatever list has it."""

from __future__ import annotations

from typing import Any

from tests.adapters.comfyui.standin.execution import Item, Queue

STATES = ("pending", "in_progress", "completed", "failed", "cancelled")
ENDS = ("execution_success", "execution_error", "execution_interrupted")


def known(job: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in job.items() if value is not None}


def queued_job(item: Item, status: str) -> dict[str, Any]:
    return {
        "id": item.prompt_id,
        "status": status,
        "priority": item.number,
        "create_time": item.extra.get("create_time"),
        "outputs_count": 0,
    }


def finished_job(prompt_id: str, entry: dict[str, Any], is_newest: bool) -> dict[str, Any]:
    messages = dict(entry["status"]["messages"])
    ended: dict[str, Any] = next((messages[one] for one in ENDS if one in messages), {})
    status = "completed" if entry["status"]["completed"] else "failed"
    files = [one for ui in entry["outputs"].values() for one in ui.get("images", ())]
    job = {
        "id": prompt_id,
        "status": "cancelled" if is_newest and "execution_interrupted" in messages else status,
        "priority": entry["prompt"][0],
        "create_time": entry["prompt"][3].get("create_time"),
        "execution_start_time": messages["execution_start"]["timestamp"],
        "execution_end_time": ended.get("timestamp"),
        "execution_error": messages.get("execution_error"),
        "outputs_count": len(files),
    }
    return known(job)


def one_job(queue: Queue, prompt_id: str, is_newest: bool) -> dict[str, Any] | None:
    """All that is known of a prompt; None if nothing is."""
    with queue.lock:
        entry = queue.history.get(prompt_id)
        if entry is not None:
            more = {"outputs": entry["outputs"], "execution_status": entry["status"]}
            workflow = {"prompt": entry["prompt"][2], "extra_data": entry["prompt"][3]}
            return {**finished_job(prompt_id, entry, is_newest), **more, "workflow": workflow}
        for status, items in (("in_progress", queue.running), ("pending", queue.pending)):
            for item in items:
                if item.prompt_id == prompt_id:
                    return {**queued_job(item, status), "workflow": {"prompt": item.graph, "extra_data": item.extra}}
    return None


def all_jobs(queue: Queue, is_newest: bool) -> list[dict[str, Any]]:
    with queue.lock:
        jobs = [queued_job(one, "in_progress") for one in queue.running]
        jobs += [queued_job(one, "pending") for one in queue.pending]
        jobs += [finished_job(prompt_id, entry, is_newest) for prompt_id, entry in queue.history.items()]
    return sorted(jobs, key=lambda one: one["create_time"] or 0, reverse=True)
