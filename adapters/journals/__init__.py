"""Read and steer a journal from outside its process: calls, incidents, questions, commands."""
