"""Notifications for people: a webhook or a command is told of questions, failed calls, incidents and alerts."""

from adapters.notifications.command import Command
from adapters.notifications.items import Item
from adapters.notifications.notifier import Notifier
from adapters.notifications.outbox import Tally
from adapters.notifications.summary import Notification
from adapters.notifications.target import Target
from adapters.notifications.webhook import Webhook

__all__ = ["Command", "Item", "Notification", "Notifier", "Tally", "Target", "Webhook"]
