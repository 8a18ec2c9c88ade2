import './shard.ts'
