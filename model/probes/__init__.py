"""What happens inside a model: measurements that no verb of an engine gives, on the engine's own weights and layers."""
