"""What a run keeps, and how nothing of it is lost."""
