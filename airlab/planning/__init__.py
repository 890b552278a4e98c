"""What an experiment would take: operations, memory, hours and bytes, from shapes and measured rates."""
