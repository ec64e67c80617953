"""Low-rank adapters: small trained matrices beside a frozen model, in files that the peft library reads and writes."""
