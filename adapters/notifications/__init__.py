"""Notifications for people: a webhook or a command is told of questions, failed calls, incidents and alerts."""

from adapters.notifications.command import Command
from adapters.notifications.notifier import Notifier
from adapters.notifications.outbox import Tally
from adapters.notifications.summary import Item, Notification
from adapters.notifications.target import Target
from adapters.notifications.webhook import Webhook

__all__ = ["Command", "Item", "Notification", "Notifier", "Tally", "Target", "Webhook"]
