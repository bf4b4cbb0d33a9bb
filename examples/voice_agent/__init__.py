"""A voice agent: a duplex session around a text model, or around the example language model of speech."""

from examples.voice_agent.agents import answer as answer
