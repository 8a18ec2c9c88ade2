// The only import of the MCP SDK. The build bundles it into this file (scripts/build.js): the package and what it needs are 18 MB, the
// bundle is 0.9 MB. It is loaded at the first request to /mcp.
export { createMcpHandler, McpServer, type AuthInfo, type McpHttpHandler } from '@modelcontextprotocol/server'
