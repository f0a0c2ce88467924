"""Versions of the policy: proposed by one person, approved by another, told to everybody."""
