"""The words that all reports use for the same thing, by what they are about; those of divergences and causes are in `auditor.report`."""
