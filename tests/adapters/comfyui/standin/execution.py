"""The queue of prompts, in memory only, and the thread that runs them one by one."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from tests.adapters.comfyui.standin.nodes import CLASSES, InterruptedRun, Process, Run, png
from tests.adapters.comfyui.standin.state import RunLog

Send = Callable[[Any, Any, str | None], None]
"""Sends a message: its type, its data, and the client that gets it; None for all."""


@dataclass
class Item:
    """A prompt in the queue."""

    number: float
    prompt_id: str
    graph: dict[str, Any]
    extra: dict[str, Any]
    outputs: list[str]

    def listed(self) -> list[Any]:
        return [self.number, self.prompt_id, self.graph, self.extra, self.outputs]


@dataclass
class Queue:
    """All that a server knows of prompts. A prompt moves from pending to running to history under one lock."""

    changed: Callable[[], None]
    pending: list[Item] = field(default_factory=list)
    running: list[Item] = field(default_factory=list)
    history: dict[str, Any] = field(default_factory=dict)
    flags: set[str] = field(default_factory=set)
    lock: threading.Condition = field(default_factory=threading.Condition)

    def put(self, item: Item) -> None:
        with self.lock:
            self.pending.append(item)
            self.pending.sort(key=lambda one: one.number)
            self.changed()
            self.lock.notify()

    def take(self) -> Item | None:
        """The next prompt; None if only flags were set."""
        with self.lock:
            self.lock.wait_for(lambda: self.pending or self.flags)
            if not self.pending:
                return None
            item = self.pending.pop(0)
            self.running.append(item)
            self.changed()
            return item

    def done(self, item: Item, entry: dict[str, Any]) -> None:
        with self.lock:
            if item in self.running:
                self.running.remove(item)
                self.history[item.prompt_id] = {"prompt": item.listed(), **entry}
            self.changed()

    def delete(self, prompt_id: str) -> bool:
        with self.lock:
            found = next((one for one in self.pending if one.prompt_id == prompt_id), None)
            if found is not None:
                self.pending.remove(found)
                self.changed()
            return found is not None

    def forget(self) -> None:
        """Lose all, as no server does by itself: for tests."""
        with self.lock:
            self.pending.clear()
            self.running.clear()
            self.history.clear()

    def flag(self, name: str) -> None:
        with self.lock:
            self.flags.add(name)
            self.lock.notify()

    @property
    def remaining(self) -> int:
        return len(self.pending) + len(self.running)


@dataclass
class Executor:
    """Runs prompts in a thread of its own, and keeps what nodes gave."""

    queue: Queue
    process: Process
    runs: RunLog
    send: Send
    is_new: bool
    cache: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    interrupt: threading.Event = field(default_factory=threading.Event)
    client: str | None = None
    node: str | None = None

    def work(self) -> None:
        while True:
            item = self.queue.take()
            if item is not None:
                began = time.perf_counter()
                self.runs.write("begin", item.prompt_id)
                entry = One(self, item).run()
                self.process.faults.die("die_at_end")
                self.runs.write("end", item.prompt_id, entry["status"]["status_str"])
                self.queue.done(item, entry)
                if self.client is not None:
                    self.send("executing", {"node": None, "prompt_id": item.prompt_id}, self.client)
                logging.info("Prompt executed in %.2f seconds", time.perf_counter() - began)
            with self.queue.lock:
                flags = set(self.queue.flags)
                self.queue.flags.clear()
            self.process.is_freed = self.process.is_freed or bool(flags)
            if "free_memory" in flags:
                self.cache.clear()

    def interrupt_if_running(self, prompt_id: str) -> bool:
        with self.queue.lock:
            is_running = any(one.prompt_id == prompt_id for one in self.queue.running)
            if is_running:
                self.interrupt.set()
            return is_running


class One:
    """One run of a prompt."""

    def __init__(self, executor: Executor, item: Item) -> None:
        self._executor = executor
        self._item = item
        self._graph = item.graph
        self._messages: list[tuple[str, dict[str, Any]]] = []
        self._states: dict[str, dict[str, Any]] = {}
        self._given: dict[str, tuple[Any, ...]] = {}
        self._outputs: dict[str, Any] = {}
        self._executed: list[str] = []

    def run(self) -> dict[str, Any]:
        """Run it.

        Returns:
            Its entry in the history.
        """
        executor = self._executor
        executor.interrupt.clear()
        executor.client = self._item.extra.get("client_id")
        self._say("execution_start", {})
        names = {node_id: self._signature(node_id) for node_id in self._graph}
        if not executor.is_new:  # older servers keep what the last prompt's nodes gave, newer ones more
            for name in executor.cache.keys() - set(names.values()):
                del executor.cache[name]
        self._say("execution_cached", {"nodes": [one for one, name in names.items() if name in executor.cache]})
        node_id = ""
        is_done = False
        try:
            for node_id in self._order(names):
                self._execute(node_id, names[node_id])
            self._say("execution_success", {})
            is_done = True
        except InterruptedRun:
            logging.info("Processing interrupted")
            self._say("execution_interrupted", self._where(node_id), to_all=True)
        except Exception as error:
            self._say("execution_error", self._where(node_id) | self._error(node_id, error))
            logging.error("!!! Exception during processing !!! %s", error, exc_info=True)
        executor.node = None
        return {
            "outputs": self._outputs,
            "status": {
                "status_str": "success" if is_done else "error",
                "completed": is_done,
                "messages": self._messages,
            },
            "meta": {one: self._meta(one) for one in self._outputs},
        }

    def _execute(self, node_id: str, name: str) -> None:
        executor = self._executor
        prompt_id = self._item.prompt_id
        if name in executor.cache:
            self._given[node_id], ui = executor.cache[name]
            self._show(node_id, ui)
            self._state(node_id, 1.0, 1.0, "finished")
            return
        self._state(node_id, 0.0, 1.0, "running")
        executor.node = node_id
        if executor.client is not None:
            data = {"node": node_id, "display_node": node_id, "prompt_id": prompt_id}
            executor.send("executing", data, executor.client)
        values = {key: self._value(one) for key, one in self._inputs(node_id).items()}
        self._check()
        run = Run(
            executor.process,
            prompt_id,
            lambda value, most: self._step(node_id, value, most),
            self._check,
            lambda word: executor.runs.write(word, prompt_id),
        )
        given, ui = CLASSES[self._graph[node_id]["class_type"]].body(run, **values)
        self._given[node_id] = given
        self._show(node_id, ui)
        executor.cache[name] = given, ui
        self._state(node_id, 1.0, 1.0, "finished")
        self._executed.append(node_id)

    def _order(self, names: dict[str, str]) -> list[str]:
        """The nodes, each after those that it needs. One in the cache needs none."""
        order: dict[str, None] = {}

        def visit(node_id: str) -> None:
            for one in self._inputs(node_id).values():
                if isinstance(one, list) and names[node_id] not in self._executor.cache:
                    visit(one[0])
            order.setdefault(node_id)

        for output in self._item.outputs:
            visit(output)
        return list(order)

    def _inputs(self, node_id: str) -> dict[str, Any]:
        known = CLASSES[self._graph[node_id]["class_type"]].inputs(self._executor.process.folders)
        return {key: one for key, one in self._graph[node_id].get("inputs", {}).items() if key in known}

    def _signature(self, node_id: str) -> str:
        inputs = {
            key: [self._signature(one[0]), one[1]] if isinstance(one, list) and one[0] in self._graph else one
            for key, one in self._inputs(node_id).items()
        }
        whole = json.dumps([self._graph[node_id]["class_type"], inputs], sort_keys=True)
        return sha256(whole.encode()).hexdigest()

    def _value(self, one: Any) -> Any:
        return self._given[one[0]][one[1]] if isinstance(one, list) else one

    def _check(self) -> None:
        if self._executor.interrupt.is_set():
            self._executor.interrupt.clear()
            raise InterruptedRun

    def _show(self, node_id: str, ui: dict[str, Any]) -> None:
        if not ui:
            return
        self._outputs[node_id] = ui
        if self._executor.client is not None:
            data = {"node": node_id, "display_node": node_id, "output": ui, "prompt_id": self._item.prompt_id}
            self._executor.send("executed", data, self._executor.client)

    def _step(self, node_id: str, value: int, most: int) -> None:
        self._check()
        self._state(node_id, value, most, "running")
        data = {"value": value, "max": most, "prompt_id": self._item.prompt_id, "node": node_id}
        self._executor.send("progress", data, self._executor.client)
        self._executor.send(1, b"\0\0\0\2" + png(value), self._executor.client)  # 1: a preview; 2: a PNG

    def _state(self, node_id: str, value: float, most: float, state: str) -> None:
        ids = dict.fromkeys(("node_id", "display_node_id", "real_node_id"), node_id)
        more = {"prompt_id": self._item.prompt_id, "parent_node_id": None}
        self._states[node_id] = {"value": value, "max": most, "state": state, **ids, **more}
        data = {"prompt_id": self._item.prompt_id, "nodes": dict(self._states)}
        self._executor.send("progress_state", data, self._executor.client)

    def _say(self, event: str, data: dict[str, Any], *, to_all: bool = False) -> None:
        data = {**data, "prompt_id": self._item.prompt_id, "timestamp": int(time.time() * 1000)}
        self._messages.append((event, data))
        if self._executor.client is not None or to_all:
            self._executor.send(event, data, self._executor.client)

    def _where(self, node_id: str) -> dict[str, Any]:
        return {"node_id": node_id, "node_type": self._graph[node_id]["class_type"], "executed": self._executed}

    def _error(self, node_id: str, error: Exception) -> dict[str, Any]:
        kind = type(error)
        module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        tips = "This error means you ran out of memory on your GPU." if "OutOfMemory" in kind.__name__ else ""
        return {
            "exception_message": f"{error}\n{tips}",
            "exception_type": module + kind.__qualname__,
            "traceback": ['  File "execution.py", line 525, in execute\n'],
            "current_inputs": {key: [str(self._value(one))] for key, one in self._inputs(node_id).items()},
            "current_outputs": list(self._given),
        }

    def _meta(self, node_id: str) -> dict[str, Any]:
        return {"node_id": node_id, "display_node": node_id, "parent_node": None, "real_node_id": node_id}
