"""What tests share: real processes, realistic webhooks, and readers of what came out."""
