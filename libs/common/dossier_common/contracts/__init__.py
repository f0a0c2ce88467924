"""The events, one module per owner. A consumer imports the contract, never the owner's code."""
