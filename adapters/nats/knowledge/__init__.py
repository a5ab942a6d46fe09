"""What the nodes of a cluster know together of hosts: circuits, rate limits, retry budgets."""
