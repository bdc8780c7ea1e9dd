"""Signs what the ledger has come to, puts that where nobody changes it, and watches the rows."""
