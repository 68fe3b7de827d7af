"""From a study's records to tables, figures, pages and verdicts."""
